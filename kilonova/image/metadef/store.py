"""All SQL about metadata definitions: namespaces and what stands in them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection, RowMapping

from kilonova.base.faults import exists, not_found
from kilonova.db.listing import Page, paged
from kilonova.db.types import Id, Name, Timestamp
from kilonova.image.schema import metadata


def _in_namespace(name: str, *columns: sa.Column[Any]) -> sa.Table:
    """A table of things that a namespace holds, each named once in it."""
    return sa.Table(
        name,
        metadata,
        sa.Column("namespace_id", Id(), sa.ForeignKey("metadef_namespace.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("name", Name(), primary_key=True),
        *columns,
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.Column("updated_at", Timestamp(), nullable=False),
    )


namespaces = sa.Table(
    "metadef_namespace",
    metadata,
    sa.Column("id", Id(), primary_key=True),
    sa.Column("namespace", sa.String(80), nullable=False, unique=True),
    sa.Column("display_name", sa.String(80)),
    sa.Column("description", sa.String(500)),
    sa.Column("visibility", sa.String(20), nullable=False),
    sa.Column("protected", sa.Boolean, nullable=False),
    sa.Column("owner", Name(), index=True),
    sa.Column("created_at", Timestamp(), nullable=False),
    sa.Column("updated_at", Timestamp(), nullable=False),
)
objects = _in_namespace("metadef_object", sa.Column("body", sa.JSON, nullable=False))
properties = _in_namespace("metadef_property", sa.Column("body", sa.JSON, nullable=False))
tags = _in_namespace("metadef_tag")
associations = _in_namespace(
    "metadef_association", sa.Column("prefix", sa.String(80)), sa.Column("properties_target", sa.String(80))
)
resource_types = sa.Table(
    "metadef_resource_type",
    metadata,
    sa.Column("name", sa.String(80), primary_key=True),
    sa.Column("created_at", Timestamp(), nullable=False),
    sa.Column("updated_at", Timestamp(), nullable=False),
)

NAMESPACE_SORTS = {
    "id": namespaces.c.namespace,
    "namespace": namespaces.c.namespace,
    "display_name": sa.func.coalesce(namespaces.c.display_name, ""),
    "visibility": namespaces.c.visibility,
    "owner": sa.func.coalesce(namespaces.c.owner, ""),
    "protected": namespaces.c.protected,
    "created_at": namespaces.c.created_at,
    "updated_at": namespaces.c.updated_at,
}


class Namespace(msgspec.Struct):
    """A namespace's own facts."""

    id: str
    namespace: str
    visibility: str  # public | private
    created_at: datetime
    updated_at: datetime
    display_name: str | None = None
    description: str | None = None
    protected: bool = False
    owner: str | None = None


class Item(msgspec.Struct):
    """An object (body: description, required, properties), a property (body: its schema) or a tag (no body)."""

    name: str
    created_at: datetime
    updated_at: datetime
    body: dict[str, Any] = {}


class Association(msgspec.Struct):
    """A kind of resource that a namespace's properties may stand on."""

    name: str
    created_at: datetime
    updated_at: datetime
    prefix: str | None = None
    properties_target: str | None = None


class ResourceType(msgspec.Struct):
    """A kind of resource, such as OS::Glance::Image."""

    name: str
    created_at: datetime
    updated_at: datetime


class Contents(msgspec.Struct):
    """What stands in a namespace."""

    objects: list[Item] = []
    properties: list[Item] = []
    tags: list[Item] = []
    associations: list[Association] = []


def insert_namespace(connection: Connection, namespace: Namespace, contents: Contents) -> Namespace:
    """The new namespace with all that stands in it; EXISTS when its name is taken."""
    _free(connection, namespace.namespace)
    connection.execute(namespaces.insert().values(**msgspec.structs.asdict(namespace)))
    for table, items in ((objects, contents.objects), (properties, contents.properties), (tags, contents.tags)):
        for item in items:
            insert_item(connection, table, namespace.id, item)
    for association in contents.associations:
        associate(connection, namespace.id, association)
    return namespace


def _free(connection: Connection, name: str) -> None:
    if connection.scalar(sa.select(namespaces.c.id).where(namespaces.c.namespace == name)) is not None:
        raise exists(f"The metadata definition namespace={name} already exists.")


def visible_namespace(connection: Connection, name: str, project_id: str) -> Namespace:
    """The namespace if the project may see it ("" sees all); otherwise NOT_FOUND, as if it did not exist."""
    row = connection.execute(sa.select(namespaces).where(namespaces.c.namespace == name)).mappings().first()
    if row is None or not (not project_id or row["visibility"] == "public" or row["owner"] == project_id):
        raise not_found("Metadata definition namespace", name)
    return Namespace(**row)


def list_namespaces(
    connection: Connection, project_id: str, visibility: str, types: list[str], page: Page
) -> list[tuple[Namespace, list[Association]]]:
    """A page of namespaces that the project may see ("": all), each with its resource types."""
    seen = sa.true() if not project_id else sa.or_(
        namespaces.c.visibility == "public", namespaces.c.owner == project_id
    )  # fmt: skip
    statement = sa.select(namespaces).where(seen)
    if visibility:
        statement = statement.where(namespaces.c.visibility == visibility)
    if types:
        having = sa.select(associations.c.namespace_id).where(associations.c.name.in_(types))
        statement = statement.where(namespaces.c.id.in_(having))
    statement = paged(connection, statement, NAMESPACE_SORTS, page, marker_filter=seen)
    found = [Namespace(**row) for row in connection.execute(statement).mappings()]
    by_namespace: dict[str, list[Association]] = {one.id: [] for one in found}
    rows = sa.select(associations).where(associations.c.namespace_id.in_(list(by_namespace)))
    for row in connection.execute(rows.order_by(associations.c.name)).mappings():
        by_namespace[row["namespace_id"]].append(_association(row))
    return [(one, by_namespace[one.id]) for one in found]


def update_namespace(connection: Connection, namespace: Namespace) -> Namespace:
    """Replace the namespace's own facts; it may get a new name, when that is free."""
    known = connection.scalar(sa.select(namespaces.c.namespace).where(namespaces.c.id == namespace.id))
    if known is None:
        raise not_found("Metadata definition namespace", namespace.namespace)
    if known != namespace.namespace:
        _free(connection, namespace.namespace)
    values = msgspec.structs.asdict(namespace)
    connection.execute(namespaces.update().where(namespaces.c.id == namespace.id).values(**values))
    return namespace


def delete_namespace(connection: Connection, namespace_id: str) -> None:
    """The namespace and all that stands in it are gone."""
    for table in (objects, properties, tags, associations):
        connection.execute(table.delete().where(table.c.namespace_id == namespace_id))
    connection.execute(namespaces.delete().where(namespaces.c.id == namespace_id))


def contents_of(connection: Connection, namespace_id: str) -> Contents:
    """All that stands in a namespace, by name."""
    return Contents(
        list_items(connection, objects, namespace_id),
        list_items(connection, properties, namespace_id),
        list_items(connection, tags, namespace_id),
        list_associations(connection, namespace_id),
    )


# ── objects, properties, tags: one table each, one shape


def insert_item(connection: Connection, table: sa.Table, namespace_id: str, item: Item) -> Item:
    """The new item; EXISTS when the namespace has one of that name."""
    if _find(connection, table, namespace_id, item.name) is not None:
        raise exists(f"The metadata definition {_noun(table)} {item.name} already exists in this namespace.")
    connection.execute(table.insert().values(namespace_id=namespace_id, **_item_row(table, item)))
    return item


def get_item(connection: Connection, table: sa.Table, namespace_id: str, name: str) -> Item:
    """The item; NOT_FOUND when the namespace has none of that name."""
    row = _find(connection, table, namespace_id, name)
    if row is None:
        raise not_found(f"Metadata definition {_noun(table)}", name)
    return _item(row)


def list_items(connection: Connection, table: sa.Table, namespace_id: str) -> list[Item]:
    """All items of the namespace, by name."""
    found = sa.select(table).where(table.c.namespace_id == namespace_id).order_by(table.c.name)
    return [_item(row) for row in connection.execute(found).mappings()]


def page_items(connection: Connection, table: sa.Table, namespace_id: str, page: Page) -> list[Item]:
    """A page of the namespace's items; the marker is a name."""
    mine = table.c.namespace_id == namespace_id
    columns = {"id": table.c.name, "name": table.c.name, "created_at": table.c.created_at,
               "updated_at": table.c.updated_at}  # fmt: skip
    found = paged(connection, sa.select(table).where(mine), columns, page, marker_filter=mine)
    return [_item(row) for row in connection.execute(found).mappings()]


def replace_item(connection: Connection, table: sa.Table, namespace_id: str, name: str, item: Item) -> Item:
    """The item called `name` becomes `item`, which may have another name when that is free."""
    if _find(connection, table, namespace_id, name) is None:
        raise not_found(f"Metadata definition {_noun(table)}", name)
    if item.name != name and _find(connection, table, namespace_id, item.name) is not None:
        raise exists(f"The metadata definition {_noun(table)} {item.name} already exists in this namespace.")
    mine = table.update().where(table.c.namespace_id == namespace_id, table.c.name == name)
    connection.execute(mine.values(**_item_row(table, item)))
    return item


def replace_tags(connection: Connection, namespace_id: str, wanted: Iterable[Item], keep: bool) -> list[Item]:
    """The namespace's tags are `wanted`, beside those that were there when `keep`."""
    if not keep:
        delete_items(connection, tags, namespace_id)
    made = list(wanted)
    for item in made:
        insert_item(connection, tags, namespace_id, item)
    return made


def delete_item(connection: Connection, table: sa.Table, namespace_id: str, name: str) -> None:
    """The item is gone; NOT_FOUND when it was not there."""
    gone = table.delete().where(table.c.namespace_id == namespace_id, table.c.name == name)
    if not connection.execute(gone).rowcount:
        raise not_found(f"Metadata definition {_noun(table)}", name)


def delete_items(connection: Connection, table: sa.Table, namespace_id: str) -> None:
    """The namespace has no such items any more."""
    connection.execute(table.delete().where(table.c.namespace_id == namespace_id))


# ── resource types


def list_resource_types(connection: Connection) -> list[ResourceType]:
    """Every kind of resource that is known, the oldest first."""
    found = sa.select(resource_types).order_by(resource_types.c.created_at, resource_types.c.name)
    return [ResourceType(**row) for row in connection.execute(found).mappings()]


def insert_resource_type(connection: Connection, name: str, now: datetime) -> None:
    """The resource type is known."""
    if connection.scalar(sa.select(resource_types.c.name).where(resource_types.c.name == name)) is None:
        connection.execute(resource_types.insert().values(name=name, created_at=now, updated_at=now))


def associate(connection: Connection, namespace_id: str, association: Association) -> Association:
    """The namespace is for that resource type, which becomes known; EXISTS when it was so already."""
    if _find(connection, associations, namespace_id, association.name) is not None:
        raise exists(f"The resource type {association.name} is associated with this namespace already.")
    insert_resource_type(connection, association.name, association.created_at)
    values = msgspec.structs.asdict(association)
    connection.execute(associations.insert().values(namespace_id=namespace_id, **values))
    return association


def list_associations(connection: Connection, namespace_id: str) -> list[Association]:
    """The namespace's resource types, by name."""
    found = sa.select(associations).where(associations.c.namespace_id == namespace_id).order_by(associations.c.name)
    return [_association(row) for row in connection.execute(found).mappings()]


def _find(connection: Connection, table: sa.Table, namespace_id: str, name: str) -> RowMapping | None:
    found = sa.select(table).where(table.c.namespace_id == namespace_id, table.c.name == name)
    return connection.execute(found).mappings().first()


def _noun(table: sa.Table) -> str:
    return "resource type association" if table is associations else table.name.removeprefix("metadef_")


def _item(row: RowMapping) -> Item:
    return Item(row["name"], row["created_at"], row["updated_at"], row.get("body") or {})


def _item_row(table: sa.Table, item: Item) -> dict[str, Any]:
    values = msgspec.structs.asdict(item)
    if "body" not in table.c:
        del values["body"]
    return values


def _association(row: RowMapping) -> Association:
    return Association(**{name: row[name] for name in Association.__struct_fields__})
