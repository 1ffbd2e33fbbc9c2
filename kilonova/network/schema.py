"""Network's tables. Addresses are unique per subnet, MACs per network, segments per physical network: by constraint."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from kilonova.db.idempotency import idempotency_table
from kilonova.db.types import Id, Name, Timestamp

metadata = sa.MetaData()


def _standard(*, by_project: bool = True) -> list[sa.Column[Any]]:
    """What every noun has: whose it is, what it is called, how often and when it changed."""
    return [
        sa.Column("id", Id(), primary_key=True),
        sa.Column("project_id", Id(), nullable=False, index=by_project),
        sa.Column("name", Name(), nullable=False),
        sa.Column("description", Name(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.Column("updated_at", Timestamp(), nullable=False),
    ]


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), nullable=False)


networks = sa.Table(
    "networks",
    metadata,
    *_standard(),
    _flag("admin_state_up"),
    _flag("shared"),
    _flag("external"),
    _flag("is_default"),
    _flag("port_security"),
    sa.Column("mtu", sa.Integer(), nullable=False),
    sa.Column("segment_type", sa.String(16), nullable=False),
    sa.Column("physical_network", sa.String(64), nullable=False),
    sa.Column("segment_id", sa.Integer(), nullable=True),
    sa.UniqueConstraint("segment_type", "physical_network", "segment_id", name="uq_networks_segment"),
)

subnets = sa.Table(
    "subnets",
    metadata,
    *_standard(),
    sa.Column("network_id", Id(), sa.ForeignKey("networks.id"), nullable=False, index=True),
    sa.Column("ip_version", sa.Integer(), nullable=False),
    sa.Column("cidr", sa.String(64), nullable=False),
    sa.Column("gateway_ip", sa.String(64), nullable=False),  # "" for none
    _flag("enable_dhcp"),
    sa.Column("ipv6_ra_mode", sa.String(16), nullable=False),
    sa.Column("ipv6_address_mode", sa.String(16), nullable=False),
    sa.Column("pools", sa.JSON(), nullable=False),  # [[first, last], …]
    sa.Column("dns_nameservers", sa.JSON(), nullable=False),
    sa.Column("host_routes", sa.JSON(), nullable=False),  # [[destination, next hop], …]
    sa.Column("next_position", sa.BigInteger(), nullable=False),  # where the search for a free address begins
)

ports = sa.Table(
    "ports",
    metadata,
    *_standard(by_project=False),
    sa.Column("network_id", Id(), sa.ForeignKey("networks.id"), nullable=False),
    sa.Column("mac", sa.String(17), nullable=False),
    _flag("admin_state_up"),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("device_id", Name(), nullable=False, index=True),
    sa.Column("device_owner", Name(), nullable=False),
    sa.Column("host", Name(), nullable=False, index=True),
    sa.Column("vnic_type", sa.String(64), nullable=False),
    sa.Column("vif_type", sa.String(64), nullable=False),
    sa.Column("profile", sa.JSON(), nullable=False),
    sa.Column("bound_at", Timestamp(), nullable=True),
    _flag("port_security"),
    sa.Column("address_pairs", sa.JSON(), nullable=False),  # [[ip, mac], …]
    sa.Column("dhcp_options", sa.JSON(), nullable=False),  # [[name, value, ip version], …]
    sa.Column("dns_name", Name(), nullable=False),
    sa.UniqueConstraint("network_id", "mac", name="uq_ports_mac"),
    # A network and a project may have ten thousand ports: what is asked with each of them stands in the indexes.
    sa.Index("ix_ports_network", "network_id", "host", "vif_type"),
    sa.Index("ix_ports_owner", "network_id", "device_owner", "host"),
    sa.Index("ix_ports_project", "project_id", "device_owner"),
)

addresses = sa.Table(
    "addresses",
    metadata,
    sa.Column("subnet_id", Id(), sa.ForeignKey("subnets.id"), primary_key=True),
    sa.Column("address", sa.String(64), primary_key=True),
    sa.Column("position", sa.BigInteger(), nullable=True),  # counted from the subnet's first address; far ones: NULL
    sa.Column("port_id", Id(), sa.ForeignKey("ports.id"), nullable=False, index=True),
    sa.Column("network_id", Id(), nullable=False),
    sa.Column("place", sa.Integer(), nullable=False),  # order within the port
    sa.Index("ix_addresses_position", "subnet_id", "position"),
    sa.Index("ix_addresses_network", "network_id", "address"),
)

security_groups = sa.Table("security_groups", metadata, *_standard(), _flag("stateful"), _flag("is_default"))

default_groups = sa.Table(
    "default_groups",
    metadata,
    sa.Column("project_id", Id(), primary_key=True),
    sa.Column("group_id", Id(), sa.ForeignKey("security_groups.id"), nullable=False),
)

rules = sa.Table(
    "security_group_rules",
    metadata,
    *_standard(),
    sa.Column("group_id", Id(), sa.ForeignKey("security_groups.id"), nullable=False, index=True),
    sa.Column("direction", sa.String(8), nullable=False),
    sa.Column("ethertype", sa.String(4), nullable=False),
    sa.Column("protocol", sa.String(16), nullable=False),  # "" for any
    sa.Column("port_min", sa.Integer(), nullable=True),
    sa.Column("port_max", sa.Integer(), nullable=True),
    sa.Column("remote_cidr", sa.String(64), nullable=False),
    sa.Column("remote_group", Id(), nullable=False, index=True),
    sa.Column("sameness", Name(), nullable=False),  # equal rules of one group have it equal
    sa.UniqueConstraint("group_id", "sameness", name="uq_security_group_rules_same"),
)

port_groups = sa.Table(
    "port_groups",
    metadata,
    sa.Column("port_id", Id(), sa.ForeignKey("ports.id"), primary_key=True),
    sa.Column("group_id", Id(), sa.ForeignKey("security_groups.id"), primary_key=True),
    sa.Column("host", Name(), nullable=False, server_default=""),  # the port's
    sa.Index("ix_port_groups_host", "group_id", "host"),
)

routers = sa.Table(
    "routers",
    metadata,
    *_standard(),
    _flag("admin_state_up"),
    sa.Column("host", Name(), nullable=False, index=True),
    sa.Column("gateway_network_id", Id(), nullable=False, index=True),
    sa.Column("gateway_port_id", Id(), nullable=False),
    _flag("snat"),
    sa.Column("routes", sa.JSON(), nullable=False),  # [[destination, next hop], …]
)

floating_ips = sa.Table(
    "floating_ips",
    metadata,
    *_standard(),
    sa.Column("network_id", Id(), nullable=False, index=True),
    sa.Column("own_port_id", Id(), nullable=False, index=True),  # holds the address in the external network
    sa.Column("address", sa.String(64), nullable=False),
    sa.Column("port_id", Id(), nullable=True, index=True),
    sa.Column("fixed_ip", sa.String(64), nullable=True),
    sa.Column("router_id", Id(), nullable=False, index=True),
    sa.Column("status", sa.String(16), nullable=False),
    sa.UniqueConstraint("port_id", "fixed_ip", name="uq_floating_ips_fixed"),
)

agents = sa.Table(
    "agents",
    metadata,
    sa.Column("id", Id(), primary_key=True),
    sa.Column("agent_type", sa.String(64), nullable=False),
    sa.Column("binary", sa.String(64), nullable=False),
    sa.Column("host", Name(), nullable=False),
    sa.Column("topic", sa.String(64), nullable=False),
    sa.Column("tunnel_ip", sa.String(64), nullable=False),
    sa.Column("physical_networks", sa.JSON(), nullable=False),
    sa.Column("configurations", sa.JSON(), nullable=False),
    _flag("admin_state_up"),
    sa.Column("description", Name(), nullable=False),
    sa.Column("created_at", Timestamp(), nullable=False),
    sa.Column("started_at", Timestamp(), nullable=False),
    sa.Column("seen_at", Timestamp(), nullable=False),
    sa.UniqueConstraint("agent_type", "host", name="uq_agents_host"),
)

quotas = sa.Table(
    "quotas",
    metadata,
    sa.Column("project_id", Id(), primary_key=True),
    sa.Column("resource", sa.String(32), primary_key=True),
    sa.Column("maximum", sa.Integer(), nullable=True),  # NULL: the default
)

outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("id", Id(), primary_key=True),
    sa.Column("event", sa.String(64), nullable=False),
    sa.Column("server_id", Id(), nullable=False),
    sa.Column("port_id", Id(), nullable=False),
    sa.Column("tries", sa.Integer(), nullable=False),
    sa.Column("due_at", Timestamp(), nullable=False, index=True),
    sa.Column("created_at", Timestamp(), nullable=False),
)

tags = sa.Table(
    "tags",
    metadata,
    sa.Column("resource_id", Id(), primary_key=True),
    sa.Column("tag", Name(), primary_key=True),
)

idempotency = idempotency_table(metadata)
