"""Volumes as rows, with their metadata. A volume whose `operation_id` is set is being worked on by that operation."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import not_found
from kilonova.block_storage.attachment import connection_store
from kilonova.block_storage.attachment import store as attachment_store
from kilonova.block_storage.attachment.store import Attachment
from kilonova.block_storage.schema import metadata
from kilonova.block_storage.volume_type.store import names_of
from kilonova.db.listing import Page, paged
from kilonova.db.types import Id, Name, Text, Timestamp

volumes = sa.Table(
    "volume",
    metadata,
    sa.Column("id", Id(), primary_key=True),
    sa.Column("project_id", Id(), nullable=False, index=True),
    sa.Column("user_id", Id(), nullable=False),
    sa.Column("name", Name(), nullable=True),
    sa.Column("description", Name(), nullable=True),
    sa.Column("size_gib", sa.Integer, nullable=False),
    sa.Column("quota_gib", sa.Integer, nullable=False),
    sa.Column("status", sa.String(32), nullable=False),
    sa.Column("previous_status", sa.String(32), nullable=False),
    sa.Column("availability_zone", Name(), nullable=False),
    sa.Column("bootable", sa.Boolean, nullable=False),
    sa.Column("multiattach", sa.Boolean, nullable=False),
    sa.Column("readonly", sa.Boolean, nullable=False),
    sa.Column("volume_type_id", Id(), nullable=False, index=True),
    sa.Column("source_volume_id", Id(), nullable=False),
    sa.Column("image_id", Id(), nullable=False),
    sa.Column("snapshot_id", Id(), nullable=False, server_default=""),
    sa.Column("host", Name(), nullable=False),
    sa.Column("operation_id", Id(), nullable=False),
    sa.Column("created_at", Timestamp(), nullable=False),
    sa.Column("updated_at", Timestamp()),
    sa.Index("volume_by_created", "created_at", "id"),
)
volume_metadata = sa.Table(
    "volume_metadata",
    metadata,
    sa.Column("volume_id", Id(), primary_key=True),
    sa.Column("about", sa.String(8), primary_key=True),  # volume | image
    sa.Column("key", Name(), primary_key=True),
    sa.Column("value", Text(), nullable=False),
)
_v = volumes.c
SORTS: dict[str, sa.ColumnElement[Any]] = {
    "id": _v.id,
    "name": sa.func.coalesce(_v.name, ""),
    "size": _v.size_gib,
    "status": _v.status,
    "bootable": _v.bootable,
    "availability_zone": _v.availability_zone,
    "host": _v.host,
    "created_at": _v.created_at,
    "updated_at": sa.func.coalesce(_v.updated_at, _v.created_at),
}
EQUAL: dict[str, sa.ColumnElement[Any]] = {
    "id": _v.id,
    "name": _v.name,
    "display_name": _v.name,
    "description": _v.description,
    "status": _v.status,
    "size": _v.size_gib,
    "availability_zone": _v.availability_zone,
    "bootable": _v.bootable,
    "multiattach": _v.multiattach,
    "host": _v.host,
    "project_id": _v.project_id,
    "user_id": _v.user_id,
    "volume_type_id": _v.volume_type_id,
    "source_volid": _v.source_volume_id,
}


class Volume(msgspec.Struct):
    """A volume. `quota_gib` is what the quota counts: more than the size while it grows."""

    id: str
    project_id: str
    user_id: str
    size_gib: int
    created_at: datetime
    name: str | None = None
    description: str | None = None
    quota_gib: int = 0
    status: str = "creating"
    previous_status: str = ""
    availability_zone: str = "nova"
    bootable: bool = False
    multiattach: bool = False
    readonly: bool = False
    volume_type_id: str = ""
    source_volume_id: str = ""
    image_id: str = ""
    snapshot_id: str = ""
    host: str = ""
    operation_id: str = ""
    updated_at: datetime | None = None
    volume_type: str = ""  # its type's name
    metadata: dict[str, str] = {}
    image_metadata: dict[str, str] = {}
    attachments: list[Attachment] = []


_CHILDREN = ("volume_type", "metadata", "image_metadata", "attachments")


class Filters(msgspec.Struct):
    """Which volumes; project "" is all. `times` are (column, operator, moment)."""

    project_id: str = ""
    equal: dict[str, Any] = {}
    like: dict[str, str] = {}
    times: list[tuple[str, str, datetime]] = []
    metadata: dict[str, str] = {}
    image_metadata: dict[str, str] = {}
    nothing: bool = False  # a filter that no volume can pass


def insert(connection: Connection, volume: Volume) -> None:
    """A new volume with its metadata."""
    values = {name: value for name, value in msgspec.structs.asdict(volume).items() if name not in _CHILDREN}
    connection.execute(volumes.insert().values(**values | {"quota_gib": volume.quota_gib or volume.size_gib}))
    put_metadata(connection, volume.id, "volume", volume.metadata)
    put_metadata(connection, volume.id, "image", volume.image_metadata)


def get(connection: Connection, volume_id: str, project_id: str = "") -> Volume:
    """The volume with all that hangs on it. NOT_FOUND when there is none (in that project, when given)."""
    mine = sa.select(volumes).where(_v.id == volume_id)
    row = connection.execute(mine.where(_v.project_id == project_id) if project_id else mine).mappings().first()
    if row is None:
        raise not_found("Volume", volume_id)
    return _dressed(connection, [row])[0]


def lock(connection: Connection, volume_id: str) -> None:
    """Nobody else changes the volume until this transaction ends. NOT_FOUND when it is gone."""
    if connection.scalar(sa.select(_v.id).where(_v.id == volume_id).with_for_update()) is None:
        raise not_found("Volume", volume_id)


def change(connection: Connection, volume_id: str, values: dict[str, Any]) -> None:
    """Set columns. NOT_FOUND when it is gone."""
    if not connection.execute(volumes.update().where(_v.id == volume_id).values(**values)).rowcount:
        raise not_found("Volume", volume_id)


def change_mine(connection: Connection, volume_id: str, operation_id: str, values: dict[str, Any]) -> bool:
    """Set columns if that operation still has the volume; False when not."""
    mine = volumes.update().where(_v.id == volume_id, _v.operation_id == operation_id)
    return bool(connection.execute(mine.values(**values)).rowcount)


def move(connection: Connection, volume_id: str, origin: Collection[str], values: dict[str, Any]) -> bool:
    """Set columns if the volume's status is among `origin`; False when not."""
    mine = volumes.update().where(_v.id == volume_id, _v.status.in_(list(origin)))
    return bool(connection.execute(mine.values(**values)).rowcount)


def delete(connection: Connection, volume_id: str) -> None:
    """Forget the volume and what hangs on it."""
    connection.execute(volume_metadata.delete().where(volume_metadata.c.volume_id == volume_id))
    attachment_store.delete_of_volume(connection, volume_id)
    connection_store.forget_volume(connection, volume_id)
    connection.execute(volumes.delete().where(_v.id == volume_id))


def follow_attachments(connection: Connection, volume_id: str, now: datetime) -> None:
    """The volume's status after an attachment changed: the furthest of its attachments, or available."""
    held = {one.status for one in attachment_store.of_volumes(connection, [volume_id]).get(volume_id, [])}
    status = "available"
    for step, shown in (("attached", "in-use"), ("attaching", "attaching"), ("reserved", "reserved")):
        if step in held:
            status = shown
            break
    origin = ("available", "reserved", "attaching", "in-use", "detaching")
    move(connection, volume_id, origin, {"status": status, "updated_at": now})


# ── metadata


def put_metadata(connection: Connection, volume_id: str, about: str, values: dict[str, str]) -> None:
    """Add or replace keys."""
    m = volume_metadata.c
    if values:
        old = volume_metadata.delete().where(m.volume_id == volume_id, m.about == about, m.key.in_(list(values)))
        connection.execute(old)
        rows = [{"volume_id": volume_id, "about": about, "key": key, "value": value} for key, value in values.items()]
        connection.execute(volume_metadata.insert(), rows)


def replace_metadata(connection: Connection, volume_id: str, about: str, values: dict[str, str]) -> None:
    """Have exactly these keys."""
    m = volume_metadata.c
    connection.execute(volume_metadata.delete().where(m.volume_id == volume_id, m.about == about))
    put_metadata(connection, volume_id, about, values)


def drop_metadata(connection: Connection, volume_id: str, about: str, key: str) -> None:
    """Drop a key. NOT_FOUND when it is not there."""
    m = volume_metadata.c
    mine = volume_metadata.delete().where(m.volume_id == volume_id, m.about == about, m.key == key)
    if not connection.execute(mine).rowcount:
        raise not_found("Volume metadata key", key)


# ── lists


def listed(connection: Connection, filters: Filters, page: Page, offset: int = 0) -> list[Volume]:
    """A page of volumes."""
    statement = sa.select(volumes).where(*_conditions(filters))
    visible = _v.project_id == filters.project_id if filters.project_id else sa.true()
    found = paged(connection, statement, SORTS, page, marker_filter=visible)
    return _dressed(connection, connection.execute(found.offset(offset) if offset else found).mappings().all())


def count(connection: Connection, filters: Filters) -> int:
    """How many volumes pass the filters."""
    return connection.scalar(sa.select(sa.func.count()).select_from(volumes).where(*_conditions(filters))) or 0


def summed(connection: Connection, filters: Filters) -> tuple[int, int, dict[str, list[str]]]:
    """(how many, GiB together, metadata key → its distinct values)."""
    passed = _conditions(filters)
    counted = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(_v.size_gib), 0)).where(*passed)
    number, size = connection.execute(counted).one()
    m = volume_metadata.c
    pairs = sa.select(m.key, m.value).join(volumes, _v.id == m.volume_id).where(m.about == "volume", *passed)
    values: dict[str, list[str]] = {}
    for key, value in connection.execute(pairs.distinct().order_by(m.key)):
        values.setdefault(key, []).append(value)
    return number, int(size), values


def used(connection: Connection, project_id: str) -> list[tuple[str, int, int]]:
    """(volume type id, how many volumes, GiB) of the project: what quotas count."""
    found = sa.select(_v.volume_type_id, sa.func.count(), sa.func.sum(_v.quota_gib)).group_by(_v.volume_type_id)
    return [
        (one, number, int(size)) for one, number, size in connection.execute(found.where(_v.project_id == project_id))
    ]


def provisioned(connection: Connection) -> dict[str, int]:
    """backend host → GiB of all its volumes."""
    found = sa.select(_v.host, sa.func.sum(_v.size_gib)).where(_v.host != "").group_by(_v.host)
    return {host: int(size) for host, size in connection.execute(found)}


def known(connection: Connection, volume_ids: Iterable[str]) -> set[str]:
    """Those of the ids that have a row."""
    return set(connection.scalars(sa.select(_v.id).where(_v.id.in_(list(volume_ids)))))


def on_backend(connection: Connection, host: str, volume_ids: Iterable[str]) -> set[str]:
    """Those of the ids whose volume is on the backend HOST@BACKEND."""
    return set(connection.scalars(sa.select(_v.id).where(_v.id.in_(list(volume_ids)), _v.host == host)))


def stuck(connection: Connection, before: datetime) -> list[Volume]:
    """Volumes that say an operation works on them, changed last before `before`."""
    changed = sa.func.coalesce(_v.updated_at, _v.created_at)
    found = sa.select(volumes).where(_v.operation_id != "", changed < before).limit(200)
    return _dressed(connection, connection.execute(found).mappings().all())


def uses_type(connection: Connection, volume_type_id: str) -> bool:
    """Whether any volume is of that type."""
    return connection.scalar(sa.select(_v.id).where(_v.volume_type_id == volume_type_id).limit(1)) is not None


_COMPARE = {
    "gt": lambda column, moment: column > moment,
    "gte": lambda column, moment: column >= moment,
    "eq": lambda column, moment: column == moment,
    "neq": lambda column, moment: column != moment,
    "lt": lambda column, moment: column < moment,
    "lte": lambda column, moment: column <= moment,
}


def _conditions(filters: Filters) -> list[sa.ColumnElement[bool]]:
    made: list[sa.ColumnElement[bool]] = [sa.false()] if filters.nothing else []
    if filters.project_id:
        made.append(_v.project_id == filters.project_id)
    made += [EQUAL[name] == value for name, value in filters.equal.items()]
    made += [EQUAL[name].contains(value, autoescape=True) for name, value in filters.like.items()]
    made += [_COMPARE[how](volumes.c[column], moment) for column, how, moment in filters.times]
    for about, wanted in (("volume", filters.metadata), ("image", filters.image_metadata)):
        made += [_has(about, key, value) for key, value in wanted.items()]
    return made


def _has(about: str, key: str, value: str) -> sa.ColumnElement[bool]:
    m = volume_metadata.c
    mine = sa.select(m.volume_id).where(m.volume_id == _v.id, m.about == about, m.key == key, m.value == value)
    return mine.exists()


def _dressed(connection: Connection, rows: Iterable[Any]) -> list[Volume]:
    """Rows as volumes; what hangs on all of them is read at once."""
    made = [Volume(**row) for row in rows]
    if not made:
        return []
    by_id = {one.id: one for one in made}
    names = names_of(connection, {one.volume_type_id for one in made})
    for volume_id, held in attachment_store.of_volumes(connection, by_id).items():
        by_id[volume_id].attachments = held
    m = volume_metadata.c
    for one in connection.execute(sa.select(volume_metadata).where(m.volume_id.in_(list(by_id))).order_by(m.key)):
        volume = by_id[one.volume_id]
        (volume.metadata if one.about == "volume" else volume.image_metadata)[one.key] = one.value
    for volume in made:
        volume.volume_type = names.get(volume.volume_type_id, "")
    return made
