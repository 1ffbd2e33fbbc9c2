"""Quotas: lock the project's row for a resource, count what is really there, and only then let more in."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import invalid, over_quota
from kilonova.db.statements import Statement, read
from kilonova.network import schema
from kilonova.network.settings import QuotaDefaults
from kilonova.network.work import Work

_quotas = schema.quotas
COUNTED: dict[str, sa.Table] = {
    "network": schema.networks,
    "subnet": schema.subnets,
    "port": schema.ports,
    "router": schema.routers,
    "floatingip": schema.floating_ips,
    "security_group": schema.security_groups,
    "security_group_rule": schema.rules,
}


def take(work: Work, project_id: str, resource: str, count: int = 1) -> None:
    """Return when the project may have `count` more; holds the row's lock until the unit ends. OVER_QUOTA else."""
    own = lock(work.connection, project_id, resource)
    limit: int = getattr(work.settings.quotas, resource) if own is None else own
    if limit < 0:
        return
    used = usage(work.connection, project_id, resource)
    if used + count > limit:
        raise over_quota(resource, wanted=count, used=used, limit=limit)


_MAXIMUM = (_quotas.c.maximum,)
_LIMITS = (_quotas.c.resource, _quotas.c.maximum)


def lock(connection: Connection, project_id: str, resource: str) -> int | None:
    """The project's own limit, None when it has the default; holds the row's lock until the unit ends."""
    where = {"project_id": project_id, "resource": resource}
    found = read(connection, _MAXIMUM, where, lock=True)
    if not found:
        _insert_missing(connection, project_id, resource)
        found = read(connection, _MAXIMUM, where, lock=True)
    return found[0][0] if found else None


def _insert_missing(connection: Connection, project_id: str, resource: str) -> None:
    """Two that insert the same row at once both find it afterwards."""
    values = {"project_id": project_id, "resource": resource, "maximum": None}
    statement: sa.Insert
    # Imported where the database is of that kind: each takes a tenth of a second, which `up` would wait for.
    if connection.dialect.name == "sqlite":
        from sqlalchemy.dialects import sqlite

        statement = sqlite.insert(_quotas).values(values).on_conflict_do_nothing()
    elif connection.dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql

        statement = postgresql.insert(_quotas).values(values).on_conflict_do_nothing()
    else:
        from sqlalchemy.dialects import mysql

        statement = mysql.insert(_quotas).values(values).prefix_with("IGNORE")
    connection.execute(statement)


def usage(connection: Connection, project_id: str, resource: str) -> int:
    """How many there are. DHCP's own ports are the cloud's, they do not count."""
    return int(_COUNTS[resource].scalar(connection, project=project_id))


def _count(table: sa.Table) -> Statement:
    core = sa.select(sa.func.count()).select_from(table).where(table.c.project_id == sa.bindparam("project"))
    return Statement(core.where(table.c.device_owner != "network:dhcp") if table is schema.ports else core)


_COUNTS = {resource: _count(table) for resource, table in COUNTED.items()}


def limits(connection: Connection, project_id: str, defaults: QuotaDefaults) -> dict[str, int]:
    """Resource → limit for the project."""
    found = read(connection, _LIMITS, {"project_id": project_id})
    return vars(defaults) | {resource: most for resource, most in found if most is not None}


def details(connection: Connection, project_id: str, defaults: QuotaDefaults) -> dict[str, dict[str, int]]:
    """Resource → limit, used and reserved (always 0: what is counted is written already)."""
    return {
        resource: _detail(connection, project_id, resource, limit)
        for resource, limit in limits(connection, project_id, defaults).items()
    }


def room(connection: Connection, project_id: str, resource: str, defaults: QuotaDefaults) -> dict[str, int]:
    """`details` of one resource; what is used is counted only where there is a limit."""
    limit = limits(connection, project_id, defaults)[resource]
    return {"limit": limit} if limit < 0 else _detail(connection, project_id, resource, limit)


def _detail(connection: Connection, project_id: str, resource: str, limit: int) -> dict[str, int]:
    return {"limit": limit, "used": usage(connection, project_id, resource), "reserved": 0}


def override(work: Work, project_id: str, values: dict[str, int], *, checked: bool = False) -> dict[str, int]:
    """Set limits for a project; returns all of its limits. `checked`: INVALID when more is used already."""
    for resource, maximum in values.items():
        lock(work.connection, project_id, resource)
        if checked and 0 <= maximum < (used := usage(work.connection, project_id, resource)):
            raise invalid(
                f"Quota limit {maximum} for {resource} is below what project {project_id} uses: {used}.",
                hint="Delete some first, or set it all the same with --force.",
                code="InvalidQuotaValue",
            )
        mine = (_quotas.c.project_id == project_id) & (_quotas.c.resource == resource)
        work.connection.execute(_quotas.update().where(mine).values(maximum=maximum))
    return limits(work.connection, project_id, work.settings.quotas)


def forget(work: Work, project_id: str) -> bool:
    """Back to the defaults; whether anything else was set."""
    statement = _quotas.update().where(_quotas.c.project_id == project_id, _quotas.c.maximum.is_not(None))
    return work.connection.execute(statement.values(maximum=None)).rowcount > 0


def overridden(connection: Connection) -> list[str]:
    """Projects that have limits of their own."""
    found = sa.select(_quotas.c.project_id).where(_quotas.c.maximum.is_not(None)).distinct()
    return list(connection.scalars(found.order_by(_quotas.c.project_id)))
