"""Whom a change concerns: the hosts whose agents must fetch something again. Each question is one query."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from kilonova.db.statements import Statement, read
from kilonova.network import schema
from kilonova.network.contract import PortNews
from kilonova.network.port.built_store import BOUND
from kilonova.network.work import Work

_ports = schema.ports
_rules = schema.rules
_groups = schema.port_groups


_HOST = (_ports.c.host,)


def tell_dhcp(work: Work, network_id: str) -> None:
    """The DHCP server of the network must be built anew."""
    where = {"network_id": network_id, "device_owner": "network:dhcp"}
    for (host,) in read(work.connection, _HOST, where):
        if host:
            work.changes.dhcp[host].add(network_id)


class Neighbour(NamedTuple):
    """What a host has of a network: a port's kind of binding, and whether that is the DHCP server's."""

    host: str
    vif_type: str
    serves_dhcp: bool


_ON_NETWORK = Statement(
    sa.select(_ports.c.host, _ports.c.vif_type, _ports.c.device_owner == "network:dhcp")
    .where(_ports.c.network_id == sa.bindparam("network"), _ports.c.host != "", _ports.c.id != sa.bindparam("port"))
    .distinct()
)


def neighbours(work: Work, network_id: str, port_id: str) -> list[Neighbour]:
    """What hosts have of the network beside the port; each kind once."""
    return [Neighbour(*row) for row in _ON_NETWORK.all(work.connection, network=network_id, port=port_id)]


_WHO_FILTERS = Statement(
    sa.select(_ports.c.host)
    .join(_groups, _groups.c.port_id == _ports.c.id)
    .join(_rules, _rules.c.group_id == _groups.c.group_id)
    .where(_rules.c.remote_group.in_(sa.bindparam("groups", expanding=True)), _ports.c.host != "")
    .distinct()
)


def tell_members(work: Work, group_ids: Collection[str], news: PortNews) -> None:
    """A port joined, left or changed in these groups: hosts that filter by them must know."""
    for host in _WHO_FILTERS.scalars(work.connection, groups=list(group_ids)) if group_ids else ():
        work.changes.heard(host, news)


_BUILT_IN = (
    sa.exists()
    .where(_groups.c.port_id == _ports.c.id, _groups.c.group_id == schema.security_groups.c.id)
    .where(_ports.c.host == sa.bindparam("host"), _ports.c.vif_type == BOUND, _ports.c.id != sa.bindparam("port"))
)
_GROUPS_BUILT = Statement(
    sa.select(schema.security_groups.c.id).where(
        schema.security_groups.c.id.in_(sa.bindparam("groups", expanding=True)), _BUILT_IN
    )
)


def has_groups(work: Work, host: str, group_ids: Sequence[str], port_id: str) -> bool:
    """Whether the host has other ports built in each of these groups."""
    if not group_ids:
        return True
    found = _GROUPS_BUILT.scalars(work.connection, groups=list(group_ids), host=host, port=port_id)
    return len(found) == len(set(group_ids))


def tell_group(work: Work, group_id: str) -> None:
    """The rules of the group changed: hosts of its ports must filter anew."""
    found = (
        sa.select(_ports.c.host, _ports.c.network_id)
        .join(_groups, _groups.c.port_id == _ports.c.id)
        .where(_groups.c.group_id == group_id, _ports.c.host != "")
        .distinct()
    )
    work.changes.network_members((host, network_id) for host, network_id in work.connection.execute(found))


def tell_network(work: Work, network_id: str) -> None:
    """All ports of the network must be built anew (its MTU or state changed), DHCP and routers too."""
    found = sa.select(_ports.c.id, _ports.c.host, _ports.c.device_owner, _ports.c.device_id).where(
        _ports.c.network_id == network_id, _ports.c.host != ""
    )
    for port_id, host, owner, device_id in work.connection.execute(found):
        work.changes.port(host, port_id)
        if owner == "network:dhcp":
            work.changes.dhcp[host].add(network_id)
        elif owner.startswith("network:router"):
            work.changes.routers[host].add(device_id)


def tell_routers(work: Work, network_id: str) -> None:
    """Routers with a leg in the network must learn something (a subnet's gateway, a new address)."""
    found = sa.select(_ports.c.host, _ports.c.device_id).where(
        _ports.c.network_id == network_id, _ports.c.device_owner.like("network:router%"), _ports.c.host != ""
    )
    for host, router_id in work.connection.execute(found):
        work.changes.routers[host].add(router_id)


def tell_router(work: Work, router_id: str) -> None:
    """The router's host must build it anew."""
    host = work.connection.scalar(sa.select(schema.routers.c.host).where(schema.routers.c.id == router_id))
    if host:
        work.changes.routers[host].add(router_id)
