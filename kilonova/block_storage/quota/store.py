"""Quotas as rows. Use is counted from the real rows in the same transaction that adds to it, so none can be passed."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import over_quota
from kilonova.block_storage.schema import metadata
from kilonova.block_storage.snapshot import store as snapshot_store
from kilonova.block_storage.volume import store as volume_store
from kilonova.block_storage.volume_type import store as type_store
from kilonova.db.types import Id, Name

quotas = sa.Table(
    "quota",
    metadata,
    sa.Column("project_id", Id(), primary_key=True),
    sa.Column("resource", Name(), primary_key=True),
    sa.Column("maximum", sa.Integer, nullable=False),
)
DEFAULTS: Mapping[str, int] = {
    "volumes": 10,
    "per_volume_gigabytes": -1,
    "snapshots": 10,
    "gigabytes": 1000,
    "backups": 10,
    "backup_gigabytes": 1000,
    "groups": 10,
}
PER_TYPE = ("volumes", "gigabytes", "snapshots")


def resources(connection: Connection, defaults: Mapping[str, int]) -> dict[str, int]:
    """Every resource that has a quota, with its default: -1 is without limit."""
    made = dict(defaults)
    for name in type_store.all_names(connection).values():
        made |= {f"{resource}_{name}": -1 for resource in PER_TYPE}
    return made


def limits(connection: Connection, project_id: str, defaults: Mapping[str, int]) -> dict[str, int]:
    """resource → the project's limit."""
    made = resources(connection, defaults)
    found = sa.select(quotas.c.resource, quotas.c.maximum).where(quotas.c.project_id == project_id)
    made.update({one.resource: one.maximum for one in connection.execute(found) if one.resource in made})
    return made


def usage(connection: Connection, project_id: str) -> dict[str, int]:
    """resource → how much the project uses; what it does not use is missing."""
    names = type_store.all_names(connection)
    made = {"volumes": 0, "gigabytes": 0, "snapshots": 0}
    for type_id, number, size in volume_store.used(connection, project_id):
        made["volumes"] += number
        made["gigabytes"] += size
        made[f"volumes_{names.get(type_id, type_id)}"] = number
        made[f"gigabytes_{names.get(type_id, type_id)}"] = size
    for type_id, number, size in snapshot_store.used(connection, project_id):
        name = names.get(type_id, type_id)
        made["snapshots"] += number
        made["gigabytes"] += size
        made[f"snapshots_{name}"] = number
        made[f"gigabytes_{name}"] = made.get(f"gigabytes_{name}", 0) + size
    return made


def require(connection: Connection, project_id: str, defaults: Mapping[str, int], wanted: Mapping[str, int]) -> None:
    """Return when the project may have `wanted` more of each resource. Else OVER_QUOTA."""
    allowed, have = limits(connection, project_id, defaults), usage(connection, project_id)
    for resource, more in wanted.items():
        limit = allowed.get(resource, -1)
        if limit >= 0 and have.get(resource, 0) + more > limit:
            raise over_quota(resource, wanted=more, used=have.get(resource, 0), limit=limit)


def require_volume(
    connection: Connection, project_id: str, defaults: Mapping[str, int], type_name: str, size_gib: int, more: int = 1
) -> None:
    """Room for `more` volumes with `size_gib` together (0 volumes: one that grows by as much)."""
    wanted = {"gigabytes": size_gib, f"gigabytes_{type_name}": size_gib}
    if more:
        wanted |= {"volumes": more, f"volumes_{type_name}": more}
    require(connection, project_id, defaults, wanted)


def require_snapshot(
    connection: Connection, project_id: str, defaults: Mapping[str, int], type_name: str, size_gib: int
) -> None:
    """Room for one more snapshot of `size_gib`, which counts as a volume's GiB do."""
    wanted = {"snapshots": 1, f"snapshots_{type_name}": 1, "gigabytes": size_gib, f"gigabytes_{type_name}": size_gib}
    require(connection, project_id, defaults, wanted)


def require_size(connection: Connection, project_id: str, defaults: Mapping[str, int], size_gib: int) -> None:
    """Return when one volume may be that large. Else OVER_QUOTA."""
    limit = limits(connection, project_id, defaults)["per_volume_gigabytes"]
    if 0 <= limit < size_gib:
        raise over_quota("per_volume_gigabytes", wanted=size_gib, used=0, limit=limit)


def put(connection: Connection, project_id: str, values: Mapping[str, int]) -> None:
    """Set limits."""
    drop_some(connection, project_id, list(values))
    if values:
        rows = [{"project_id": project_id, "resource": name, "maximum": value} for name, value in values.items()]
        connection.execute(quotas.insert(), rows)


def drop_some(connection: Connection, project_id: str, names: list[str]) -> None:
    """These go back to their defaults."""
    connection.execute(quotas.delete().where(quotas.c.project_id == project_id, quotas.c.resource.in_(names)))


def drop(connection: Connection, project_id: str) -> None:
    """All go back to their defaults."""
    connection.execute(quotas.delete().where(quotas.c.project_id == project_id))
