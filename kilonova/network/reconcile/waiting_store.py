"""What waits, as the database knows it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.db.statements import Statement
from kilonova.network import schema
from kilonova.network.port import store as ports
from kilonova.network.port.binding_store import FAILED
from kilonova.network.port.built_store import BOUND
from kilonova.network.router import store as routers
from kilonova.network.work import Work

_ports = schema.ports
_subnets = schema.subnets
BATCH = 200


def _unserved() -> sa.Select[Any]:
    """Networks with a subnet that asks for DHCP and no DHCP port on a host."""
    served = sa.select(_ports.c.network_id).where(_ports.c.device_owner == "network:dhcp", _ports.c.host != "")
    asks = sa.or_(_subnets.c.ip_version == 4, _subnets.c.ipv6_address_mode != "")
    wanted = sa.select(_subnets.c.network_id).where(_subnets.c.enable_dhcp.is_(True), asks)
    return wanted.where(_subnets.c.network_id.not_in(served)).distinct().limit(BATCH)


def _failed() -> sa.Select[Any]:
    statement = sa.select(_ports.c.id, _ports.c.host).where(_ports.c.vif_type == FAILED, _ports.c.host != "")
    return statement.where(_ports.c.device_owner.like("network:%")).limit(BATCH)


def _homeless() -> sa.Select[Any]:
    legs = sa.select(_ports.c.device_id).where(_ports.c.device_owner.like("network:router%"))
    return sa.select(schema.routers.c.id).where(schema.routers.c.host == "", schema.routers.c.id.in_(legs))


_UNSERVED, _FAILED, _HOMELESS = Statement(_unserved()), Statement(_failed()), Statement(_homeless())


def anything_waits(connection: Connection) -> bool:
    """Whether something has no host, or one that could not build it."""
    return any(question.first(connection) is not None for question in (_UNSERVED, _FAILED, _HOMELESS))


def give_hosts(work: Work) -> int:
    """DHCP servers and routers get a host; failed bindings are tried again (servers' ports are compute's)."""
    done = routers.schedule_waiting(work)
    for network_id in _UNSERVED.scalars(work.connection):
        done += ports.serve_dhcp(work, network_id)
    for port_id, host in _FAILED.all(work.connection):
        again = ports.update_port(work, port_id, {"host": host}, None, None)
        done += again.vif_type == BOUND
    return done


_UNBUILT = Statement(
    sa.select(_ports.c.id, _ports.c.host)
    .where(
        _ports.c.vif_type == BOUND,
        _ports.c.status == "DOWN",
        _ports.c.admin_state_up.is_(True),
        _ports.c.bound_at < sa.bindparam("before", type_=_ports.c.bound_at.type),
        _ports.c.device_owner != "network:floatingip",
    )
    .limit(BATCH)
)


def tell_unbuilt(work: Work) -> int:
    """Bound ports that are not reported up although their host had time enough."""
    before = work.draw.now() - timedelta(seconds=work.settings.rebuild_after_seconds)
    rows = _UNBUILT.all(work.connection, before=before)
    for port_id, host in rows:
        work.changes.port(host, port_id)
    return len(rows)
