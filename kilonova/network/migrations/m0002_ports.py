"""Ports and their addresses."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id, Name, Timestamp


def upgrade(op: Operations) -> None:
    """Make the tables."""
    op.create_table(
        "ports",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("project_id", Id(), nullable=False),
        sa.Column("name", Name(), nullable=False),
        sa.Column("description", Name(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.Column("updated_at", Timestamp(), nullable=False),
        sa.Column("network_id", Id(), sa.ForeignKey("networks.id"), nullable=False),
        sa.Column("mac", sa.String(17), nullable=False),
        sa.Column("admin_state_up", sa.Boolean(), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("device_id", Name(), nullable=False),
        sa.Column("device_owner", Name(), nullable=False),
        sa.Column("host", Name(), nullable=False),
        sa.Column("vnic_type", Id(), nullable=False),
        sa.Column("vif_type", Id(), nullable=False),
        sa.Column("profile", sa.JSON(), nullable=False),
        sa.Column("bound_at", Timestamp(), nullable=True),
        sa.Column("port_security", sa.Boolean(), nullable=False),
        sa.Column("address_pairs", sa.JSON(), nullable=False),
        sa.Column("dhcp_options", sa.JSON(), nullable=False),
        sa.Column("dns_name", Name(), nullable=False),
        sa.UniqueConstraint("network_id", "mac", name="uq_ports_mac"),
    )
    op.create_index("ix_ports_device_id", "ports", ["device_id"])
    op.create_index("ix_ports_host", "ports", ["host"])
    op.create_index("ix_ports_project_id", "ports", ["project_id"])
    op.create_table(
        "addresses",
        sa.Column("subnet_id", Id(), sa.ForeignKey("subnets.id"), primary_key=True),
        sa.Column("address", Id(), primary_key=True),
        sa.Column("position", sa.BigInteger(), nullable=True),
        sa.Column("port_id", Id(), sa.ForeignKey("ports.id"), nullable=False),
        sa.Column("network_id", Id(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
    )
    op.create_index("ix_addresses_network", "addresses", ["network_id", "address"])
    op.create_index("ix_addresses_port_id", "addresses", ["port_id"])
    op.create_index("ix_addresses_position", "addresses", ["subnet_id", "position"])
