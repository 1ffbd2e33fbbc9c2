"""Whom a change concerns: the hosts whose agents must fetch something again. Each question is one query."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from kilonova.db.statements import Statement, read
from kilonova.network import schema
from kilonova.network.contract import PortNews
from kilonova.network.port.built_store import BOUND
from kilonova.network.work import Work

_ports = schema.ports
_rules = schema.rules
_groups = schema.port_groups
_security_groups = schema.security_groups
_HOST = (_ports.c.host,)


def tell_dhcp(work: Work, network_id: str) -> None:
    """The DHCP server of the network must be built anew."""
    where = {"network_id": network_id, "device_owner": "network:dhcp"}
    for (host,) in read(work.connection, _HOST, where):
        if host:
            work.changes.dhcp[host].add(network_id)


def _walk(table: sa.Table, key: str, keys: sa.Select[Any]) -> sa.CTE:
    """(key, host) for each host that the table has under these keys, and each key once more without a host.

    It goes from one host to the next by the index on both columns, and not from row to row: of a network or a group
    a host may have hundreds of ports.
    """
    of = keys.subquery("of")

    def first(key_is: Any, after: Any) -> Any:
        rows = table.alias()
        return sa.select(sa.func.min(rows.c.host)).where(rows.c[key] == key_is, rows.c.host > after).scalar_subquery()

    walk = sa.select(of.c.key, first(of.c.key, "").label("host")).cte("walk", recursive=True)
    return walk.union_all(sa.select(walk.c.key, first(walk.c.key, walk.c.host)).where(walk.c.host.is_not(None)))


_NETWORK: sa.BindParameter[str] = sa.bindparam("network", type_=_ports.c.network_id.type)
_GROUPS: sa.BindParameter[str] = sa.bindparam("groups", expanding=True)
_on_network = _walk(_ports, "network_id", sa.select(_NETWORK.label("key")))
_ON_NETWORK = Statement(
    sa.select(_on_network.c.host, sa.literal(0))
    .where(_on_network.c.host.is_not(None))
    .union_all(
        sa.select(_ports.c.host, sa.literal(1)).where(
            _ports.c.network_id == _NETWORK, _ports.c.device_owner == "network:dhcp", _ports.c.host != ""
        )
    )
)


def hosts_of_network(work: Work, network_id: str) -> tuple[list[str], list[str]]:
    """(hosts that have ports of the network, those of its DHCP servers)."""
    rows = _ON_NETWORK.all(work.connection, network=network_id)
    return [host for host, serves in rows if not serves], [host for host, serves in rows if serves]


_filtering = _walk(
    _groups, "group_id", sa.select(_rules.c.group_id.label("key")).where(_rules.c.remote_group.in_(_GROUPS)).distinct()
)
_WHO_FILTERS = Statement(sa.select(_filtering.c.host).where(_filtering.c.host.is_not(None)).distinct())


def tell_members(work: Work, group_ids: Collection[str], news: PortNews) -> None:
    """A port joined, left or changed in these groups: hosts that filter by them must know."""
    for host in _WHO_FILTERS.scalars(work.connection, groups=list(group_ids)) if group_ids else ():
        work.changes.heard(host, news)


_BUILT = (_ports.c.host == sa.bindparam("host")) & (_ports.c.vif_type == BOUND) & (_ports.c.id != sa.bindparam("port"))
_NETWORK_BUILT = Statement(sa.select(_ports.c.id).where(_ports.c.network_id == _NETWORK, _BUILT).limit(1))
_GROUPS_BUILT = Statement(
    sa.select(_security_groups.c.id).where(
        _security_groups.c.id.in_(_GROUPS),
        sa.exists().where(_ports.c.network_id == _NETWORK, _BUILT),
        sa.exists().where(
            _groups.c.group_id == _security_groups.c.id,
            _groups.c.host == sa.bindparam("host"),
            _ports.c.id == _groups.c.port_id,
            _BUILT,
        ),
    )
)


def is_told(work: Work, network_id: str, group_ids: Sequence[str], host: str, port_id: str) -> bool:
    """Whether the host has built other ports of the network and of each group: then it hears of all their changes."""
    where = {"network": network_id, "host": host, "port": port_id}
    if not group_ids:
        return _NETWORK_BUILT.first(work.connection, **where) is not None
    return len(_GROUPS_BUILT.all(work.connection, groups=list(group_ids), **where)) == len(set(group_ids))


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
