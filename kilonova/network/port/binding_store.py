"""Binding in the database: which host builds a port, whether it can, and who must hear of a port's change."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from kilonova.db.database import redone
from kilonova.db.statements import Statement, read
from kilonova.network import schema, told_store
from kilonova.network.agent import store as agents
from kilonova.network.contract import DhcpHost, Lease, PortNews, Segment
from kilonova.network.door import absent
from kilonova.network.lease import host_of
from kilonova.network.outbox import store as outbox
from kilonova.network.port import built_store
from kilonova.network.port.built_store import BOUND, Carried, Subnets
from kilonova.network.work import Work

if TYPE_CHECKING:
    from kilonova.network.port.store import Port

_ports = schema.ports
_networks = schema.networks
_agents = schema.agents
FAILED, UNBOUND = "binding_failed", "unbound"


def bind(work: Work, port: Port) -> Carried | None:
    """Set the port's vif_type from its host: bound when a living agent there can carry the network's segment.

    Answers how the network's frames travel; None when the port has no host.
    """
    port.status = "DOWN"
    if not port.host:
        port.vif_type, port.bound_at = UNBOUND, None
        return None
    found = _CARRIER.first(work.connection, network=port.network_id, host=port.host)
    if found is None:
        raise absent("Network", port.network_id)
    network, now = Carried.of(*found[1:6]), work.draw.now()
    can = port.vnic_type == "normal" and agents.lives(work, *found[6:8]) and _can_carry(network.segment, *found[8:])
    port.vif_type, port.bound_at = (BOUND if can else FAILED), now
    if port.device_owner == "network:floatingip":
        port.status = "N/A"
    return network


_CARRIER = Statement(
    sa.select(
        *built_store.SEGMENT,
        *[_agents.c[name] for name in ("seen_at", "admin_state_up", "physical_networks", "tunnel_ip")],
    )
    .select_from(
        _networks.outerjoin(_agents, (_agents.c.agent_type == agents.L2) & (_agents.c.host == sa.bindparam("host")))
    )
    .where(_networks.c.id == sa.bindparam("network"))
)


def _can_carry(segment: Segment, physical_networks: Collection[str], tunnel_ip: str) -> bool:
    if segment.type in ("flat", "vlan"):
        return segment.physical_network in physical_networks
    return segment.type == "local" or bool(tunnel_ip)


def rebound(work: Work, port: Port, values: dict[str, Any]) -> dict[str, Any]:
    """The values with what a change of host, kind or state of the port means for its binding and status."""
    made = dict(values)
    moves = values.get("host", port.host) != port.host or values.get("vnic_type", port.vnic_type) != port.vnic_type
    retried = bool(values.get("host")) and port.vif_type == FAILED
    if moves or retried:
        trial = msgspec.structs.replace(port, **values)
        bind(work, trial)
        made |= {"vif_type": trial.vif_type, "status": trial.status, "bound_at": trial.bound_at}
    elif values.get("admin_state_up") is False and port.status == "ACTIVE":
        made["status"] = "DOWN"
    return made


def tell(
    work: Work, port: Port, old_host: str, group_ids: Collection[str], *, made_on: tuple[Carried, Subnets] | None = None
) -> None:
    """Whoever must hear that the port was made, changed, moved or deleted (`port.host` empty): its hosts, DHCP, hosts
    that send it frames, and hosts that filter by a group it is in. `made_on`: it is new, on this network."""
    neighbours, dhcp_hosts = told_store.hosts_of_network(work, port.network_id)
    if port.device_owner == "network:dhcp":
        told_store.tell_dhcp(work, port.network_id)
    elif not port.device_owner.startswith("network:floatingip"):
        lease = Lease(port.network_id, _lease(port))
        for host in dhcp_hosts:
            work.changes.leases.setdefault(host, {})[port.id] = lease
    if not port.host and not old_host:
        return
    news = PortNews(built_store.member(port), port.host)
    told_store.tell_members(work, group_ids, news)
    for host in neighbours:
        if {old_host, port.host} - {"", host}:
            work.changes.members[host].add(port.network_id)
    if old_host not in ("", port.host):
        work.changes.heard(old_host, news)
    if (
        made_on
        and port.vif_type == BOUND
        and told_store.is_told(work, port.network_id, port.security_groups, port.host, port.id)
    ):
        work.changes.heard(port.host, PortNews(news.member, port.host, built_store.wanted_port(port, *made_on)))
    elif port.host:
        work.changes.port(port.host, port.id)
    if port.device_owner.startswith("network:router"):
        told_store.tell_router(work, port.device_id)


def _lease(port: Port) -> DhcpHost:
    addresses = [held.address for held in port.fixed_ips]
    return host_of(port.id, port.mac, port.revision, addresses, (port.dns_name, port.dhcp_options))


_ROUTER = (schema.floating_ips.c.router_id,)


def release_floating(work: Work, port_id: str) -> None:
    """Floating IPs of the port stand for nothing now; their routers hear of it."""
    found = read(work.connection, _ROUTER, {"port_id": port_id})
    if not found:
        return
    for router_id in {one for (one,) in found if one}:
        told_store.tell_router(work, router_id)
    floating = schema.floating_ips
    work.connection.execute(
        floating.update()
        .where(floating.c.port_id == port_id)
        .values(port_id=None, fixed_ip=None, router_id="", status="DOWN", revision=floating.c.revision + 1)
    )


def tell_compute(work: Work, event: str, device: tuple[str, str], port_id: str) -> None:
    """The server that has the port, when (device id, device owner) is a server, must show something else."""
    device_id, owner = device
    if device_id and owner.startswith("compute:"):
        outbox.put(work, event, device_id, port_id)


def floating_changed(work: Work, port_id: str) -> None:
    """A floating IP stands for the port now, or does not any more: that is a new revision of what a server shows."""
    at = _ports.c.id == port_id
    work.connection.execute(_ports.update().where(at).values(revision=_ports.c.revision + 1))
    row = work.connection.execute(sa.select(_ports.c.device_id, _ports.c.device_owner).where(at)).first()
    if row is not None:
        tell_compute(work, outbox.CHANGED, (row[0], row[1]), port_id)


_IDS: sa.BindParameter[str] = sa.bindparam("ids", expanding=True)
_NEWS = Statement(
    sa.select(_ports.c.id, _ports.c.device_id, _ports.c.device_owner)
    .where(_ports.c.id.in_(_IDS), _ports.c.host == sa.bindparam("host"), _ports.c.status != sa.bindparam("known"))
    .order_by(_ports.c.id)
)
_SET_STATUS = Statement(
    _ports.update().where(_ports.c.id.in_(_IDS)).values(status=sa.bindparam("shown"), revision=_ports.c.revision + 1)
)


@redone  # agents that begin anew report all that they find built
def reported(work: Work, host: str, up: Collection[str], down: Collection[str]) -> None:
    """The host says which of its ports are built; servers' ports are told to compute when that is news."""
    for ids, status, event in ((up, "ACTIVE", "network-vif-plugged"), (down, "DOWN", "network-vif-unplugged")):
        if not ids:
            continue
        rows = _NEWS.all(work.connection, ids=list(ids), host=host, known=status)
        if not rows:
            continue
        _SET_STATUS.change(work.connection, ids=[row[0] for row in rows], shown=status)
        for port_id, device_id, owner in rows:
            tell_compute(work, event, (device_id, owner), port_id)
