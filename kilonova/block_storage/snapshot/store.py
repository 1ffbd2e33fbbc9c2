"""Snapshots as rows, with their metadata. One whose `operation_id` is set is being worked on by that operation."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import not_found
from kilonova.block_storage.schema import metadata
from kilonova.block_storage.volume.store import volumes
from kilonova.db.listing import Page, paged
from kilonova.db.types import Id, Name, Text, Timestamp

snapshots = sa.Table(
    "snapshot",
    metadata,
    sa.Column("id", Id(), primary_key=True),
    sa.Column("project_id", Id(), nullable=False, index=True),
    sa.Column("user_id", Id(), nullable=False),
    sa.Column("volume_id", Id(), nullable=False, index=True),
    sa.Column("volume_type_id", Id(), nullable=False),
    sa.Column("host", Name(), nullable=False),
    sa.Column("name", Name(), nullable=True),
    sa.Column("description", Name(), nullable=True),
    sa.Column("size_gib", sa.Integer, nullable=False),
    sa.Column("status", sa.String(32), nullable=False),
    sa.Column("operation_id", Id(), nullable=False),
    sa.Column("created_at", Timestamp(), nullable=False),
    sa.Column("updated_at", Timestamp()),
    sa.Index("snapshot_by_created", "created_at", "id"),
)
snapshot_metadata = sa.Table(
    "snapshot_metadata",
    metadata,
    sa.Column("snapshot_id", Id(), primary_key=True),
    sa.Column("key", Name(), primary_key=True),
    sa.Column("value", Text(), nullable=False),
)
_s, _m = snapshots.c, snapshot_metadata.c
SORTS: dict[str, sa.ColumnElement[Any]] = {
    "id": _s.id,
    "name": sa.func.coalesce(_s.name, ""),
    "status": _s.status,
    "volume_id": _s.volume_id,
    "size": _s.size_gib,
    "created_at": _s.created_at,
    "updated_at": sa.func.coalesce(_s.updated_at, _s.created_at),
}
EQUAL: dict[str, sa.ColumnElement[Any]] = {
    "id": _s.id,
    "name": _s.name,
    "display_name": _s.name,
    "description": _s.description,
    "status": _s.status,
    "volume_id": _s.volume_id,
    "size": _s.size_gib,
    "user_id": _s.user_id,
    "project_id": _s.project_id,
}


class Snapshot(msgspec.Struct):
    """A volume as it was at one moment, on the backend `host`."""

    id: str
    project_id: str
    user_id: str
    volume_id: str
    volume_type_id: str
    host: str
    size_gib: int
    created_at: datetime
    name: str | None = None
    description: str | None = None
    status: str = "creating"
    operation_id: str = ""
    updated_at: datetime | None = None
    metadata: dict[str, str] = {}


class Filters(msgspec.Struct):
    """Which snapshots; project "" is all."""

    project_id: str = ""
    equal: dict[str, Any] = {}
    like: dict[str, str] = {}
    metadata: dict[str, str] = {}
    zone: str = ""  # of the volume
    nothing: bool = False  # a filter that no snapshot can pass


def insert(connection: Connection, snapshot: Snapshot) -> None:
    """A new snapshot with its metadata."""
    values = {name: value for name, value in msgspec.structs.asdict(snapshot).items() if name != "metadata"}
    connection.execute(snapshots.insert().values(**values))
    put_metadata(connection, snapshot.id, snapshot.metadata)


def get(connection: Connection, snapshot_id: str, project_id: str = "") -> Snapshot:
    """The snapshot with its metadata. NOT_FOUND when there is none (in that project, when given)."""
    mine = sa.select(snapshots).where(_s.id == snapshot_id)
    row = connection.execute(mine.where(_s.project_id == project_id) if project_id else mine).mappings().first()
    if row is None:
        raise not_found("Snapshot", snapshot_id)
    return _dressed(connection, [row])[0]


def change(connection: Connection, snapshot_id: str, values: dict[str, Any]) -> None:
    """Set columns. NOT_FOUND when it is gone."""
    if not connection.execute(snapshots.update().where(_s.id == snapshot_id).values(**values)).rowcount:
        raise not_found("Snapshot", snapshot_id)


def change_mine(connection: Connection, snapshot_id: str, operation_id: str, values: dict[str, Any]) -> bool:
    """Set columns if that operation still has the snapshot; False when not."""
    mine = snapshots.update().where(_s.id == snapshot_id, _s.operation_id == operation_id)
    return bool(connection.execute(mine.values(**values)).rowcount)


def delete(connection: Connection, snapshot_ids: Collection[str]) -> None:
    """Forget the snapshots and what hangs on them."""
    connection.execute(snapshot_metadata.delete().where(_m.snapshot_id.in_(list(snapshot_ids))))
    connection.execute(snapshots.delete().where(_s.id.in_(list(snapshot_ids))))


def of_volume(connection: Connection, volume_id: str) -> list[Snapshot]:
    """The snapshots of a volume."""
    found = sa.select(snapshots).where(_s.volume_id == volume_id).order_by(_s.id)
    return _dressed(connection, connection.execute(found).mappings().all())


def used(connection: Connection, project_id: str) -> list[tuple[str, int, int]]:
    """(volume type id, how many snapshots, GiB) of the project: what quotas count."""
    found = sa.select(_s.volume_type_id, sa.func.count(), sa.func.sum(_s.size_gib)).group_by(_s.volume_type_id)
    return [
        (one, number, int(size)) for one, number, size in connection.execute(found.where(_s.project_id == project_id))
    ]


def stuck(connection: Connection, before: datetime) -> list[Snapshot]:
    """Snapshots that say an operation works on them, changed last before `before`."""
    changed = sa.func.coalesce(_s.updated_at, _s.created_at)
    found = sa.select(snapshots).where(_s.operation_id != "", changed < before).limit(200)
    return _dressed(connection, connection.execute(found).mappings().all())


# ── metadata


def put_metadata(connection: Connection, snapshot_id: str, values: dict[str, str]) -> None:
    """Add or replace keys."""
    if values:
        old = snapshot_metadata.delete().where(_m.snapshot_id == snapshot_id, _m.key.in_(list(values)))
        connection.execute(old)
        rows = [{"snapshot_id": snapshot_id, "key": key, "value": value} for key, value in values.items()]
        connection.execute(snapshot_metadata.insert(), rows)


def replace_metadata(connection: Connection, snapshot_id: str, values: dict[str, str]) -> None:
    """Have exactly these keys."""
    connection.execute(snapshot_metadata.delete().where(_m.snapshot_id == snapshot_id))
    put_metadata(connection, snapshot_id, values)


def drop_metadata(connection: Connection, snapshot_id: str, key: str) -> None:
    """Drop a key. NOT_FOUND when it is not there."""
    mine = snapshot_metadata.delete().where(_m.snapshot_id == snapshot_id, _m.key == key)
    if not connection.execute(mine).rowcount:
        raise not_found("Snapshot metadata key", key)


# ── lists


def listed(connection: Connection, filters: Filters, page: Page, offset: int = 0) -> list[Snapshot]:
    """A page of snapshots."""
    statement = sa.select(snapshots).where(*_conditions(filters))
    visible = _s.project_id == filters.project_id if filters.project_id else sa.true()
    found = paged(connection, statement, SORTS, page, marker_filter=visible)
    return _dressed(connection, connection.execute(found.offset(offset) if offset else found).mappings().all())


def count(connection: Connection, filters: Filters) -> int:
    """How many snapshots pass the filters."""
    return connection.scalar(sa.select(sa.func.count()).select_from(snapshots).where(*_conditions(filters))) or 0


def _conditions(filters: Filters) -> list[sa.ColumnElement[bool]]:
    made: list[sa.ColumnElement[bool]] = [sa.false()] if filters.nothing else []
    if filters.project_id:
        made.append(_s.project_id == filters.project_id)
    made += [EQUAL[name] == value for name, value in filters.equal.items()]
    made += [EQUAL[name].contains(value, autoescape=True) for name, value in filters.like.items()]
    if filters.zone:
        there = sa.select(volumes.c.id).where(volumes.c.availability_zone == filters.zone)
        made.append(_s.volume_id.in_(there))
    for key, value in filters.metadata.items():
        made.append(sa.exists().where(_m.snapshot_id == _s.id, _m.key == key, _m.value == value))
    return made


def _dressed(connection: Connection, rows: Iterable[Any]) -> list[Snapshot]:
    """Rows as snapshots; the metadata of all of them is read at once."""
    made = [Snapshot(**row, metadata={}) for row in rows]
    by_id = {one.id: one for one in made}
    if made:
        found = sa.select(snapshot_metadata).where(_m.snapshot_id.in_(list(by_id))).order_by(_m.key)
        for one in connection.execute(found):
            by_id[one.snapshot_id].metadata[one.key] = one.value
    return made
