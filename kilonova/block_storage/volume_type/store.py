"""Volume types as rows."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import conflict, exists, not_found
from kilonova.block_storage.schema import metadata
from kilonova.db.listing import Page, paged
from kilonova.db.types import Id, Name, Timestamp

volume_types = sa.Table(
    "volume_type",
    metadata,
    sa.Column("id", Id(), primary_key=True),
    sa.Column("name", Name(), nullable=False, unique=True),
    sa.Column("description", Name(), nullable=True),
    sa.Column("is_public", sa.Boolean, nullable=False),
    sa.Column("extra_specs", sa.JSON, nullable=False),
    sa.Column("created_at", Timestamp(), nullable=False),
    sa.Column("updated_at", Timestamp()),
)
type_access = sa.Table(
    "volume_type_access",
    metadata,
    sa.Column("volume_type_id", Id(), primary_key=True),
    sa.Column("project_id", Id(), primary_key=True),
)
_t = volume_types.c
SORTS: dict[str, sa.ColumnElement[Any]] = {
    "id": _t.id,
    "name": _t.name,
    "is_public": _t.is_public,
    "created_at": _t.created_at,
    "updated_at": sa.func.coalesce(_t.updated_at, _t.created_at),
}


class VolumeType(msgspec.Struct):
    """A kind of volume, and what a backend must offer for it."""

    id: str
    name: str
    created_at: datetime
    description: str | None = None
    is_public: bool = True
    extra_specs: dict[str, str] = {}
    updated_at: datetime | None = None


class Filters(msgspec.Struct):
    """Which types. project "": all; else public ones and those the project was given."""

    project_id: str = ""
    is_public: bool | None = None
    equal: dict[str, str] = {}
    extra_specs: dict[str, str] = {}


def insert(connection: Connection, one: VolumeType) -> None:
    """A new type. EXISTS when the name is taken."""
    _require_free(connection, one.name, "")
    connection.execute(volume_types.insert().values(**msgspec.structs.asdict(one)))


def update(connection: Connection, type_id: str, values: dict[str, Any]) -> VolumeType:
    """The type with columns set. EXISTS when the new name is taken."""
    if name := values.get("name"):
        _require_free(connection, name, type_id)
    connection.execute(volume_types.update().where(_t.id == type_id).values(**values))
    return get(connection, type_id)


def _require_free(connection: Connection, name: str, but: str) -> None:
    if connection.scalar(sa.select(_t.id).where(_t.name == name, _t.id != but)) is not None:
        raise exists(f"Volume Type {name} already exists.")


def delete(connection: Connection, type_id: str) -> None:
    """Forget the type and who may use it."""
    connection.execute(type_access.delete().where(type_access.c.volume_type_id == type_id))
    connection.execute(volume_types.delete().where(_t.id == type_id))


def _visible(project_id: str) -> sa.ColumnElement[bool]:
    given = sa.select(type_access.c.project_id).where(
        type_access.c.volume_type_id == _t.id, type_access.c.project_id == project_id
    )
    return sa.or_(_t.is_public, given.exists()) if project_id else sa.true()


def get(connection: Connection, type_id: str, project_id: str = "") -> VolumeType:
    """The type. NOT_FOUND when there is none that the project may see ("": any)."""
    row = connection.execute(sa.select(volume_types).where(_t.id == type_id, _visible(project_id))).mappings().first()
    if row is None:
        raise not_found("Volume type", type_id)
    return VolumeType(**row)


def find(connection: Connection, name_or_id: str, project_id: str = "") -> VolumeType:
    """The type of that id or name. NOT_FOUND when there is none that the project may see."""
    mine = sa.select(volume_types).where(sa.or_(_t.id == name_or_id, _t.name == name_or_id), _visible(project_id))
    row = connection.execute(mine.order_by(sa.case((_t.id == name_or_id, 0), else_=1)).limit(1)).mappings().first()
    if row is None:
        raise not_found("Volume type", name_or_id)
    return VolumeType(**row)


def listed(connection: Connection, filters: Filters, page: Page) -> list[VolumeType]:
    """A page of types. Extra specs are matched after reading: they are one JSON document per type."""
    visible = _visible(filters.project_id)
    statement = sa.select(volume_types).where(visible, *(_t[name] == value for name, value in filters.equal.items()))
    if filters.is_public is not None:
        statement = statement.where(_t.is_public.is_(filters.is_public))
    found = [VolumeType(**row) for row in connection.execute(paged(connection, statement, SORTS, page)).mappings()]
    return [one for one in found if filters.extra_specs.items() <= one.extra_specs.items()]


def names_of(connection: Connection, type_ids: Iterable[str]) -> dict[str, str]:
    """id → name."""
    found = sa.select(_t.id, _t.name).where(_t.id.in_(list(type_ids)))
    return {one.id: one.name for one in connection.execute(found)}


def all_names(connection: Connection) -> dict[str, str]:
    """id → name of every type."""
    return {one.id: one.name for one in connection.execute(sa.select(_t.id, _t.name).order_by(_t.name))}


def access(connection: Connection, type_id: str) -> list[str]:
    """Projects that were given the private type."""
    found = sa.select(type_access.c.project_id).where(type_access.c.volume_type_id == type_id)
    return list(connection.scalars(found.order_by(type_access.c.project_id)))


def give(connection: Connection, type_id: str, project_id: str) -> None:
    """Let the project use the type. CONFLICT when it may already."""
    if project_id in access(connection, type_id):
        raise conflict(f"Volume type access for {type_id} / {project_id} combination already exists.")
    connection.execute(type_access.insert().values(volume_type_id=type_id, project_id=project_id))


def take(connection: Connection, type_id: str, project_id: str) -> None:
    """The project may no longer use the type. NOT_FOUND when it could not."""
    mine = type_access.delete().where(type_access.c.volume_type_id == type_id, type_access.c.project_id == project_id)
    if not connection.execute(mine).rowcount:
        raise not_found("Volume type access", f"{type_id} / {project_id}")
