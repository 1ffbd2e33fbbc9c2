"""All SQL about images, their tags and members."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import conflict, exists, not_found
from kilonova.db.idempotency import earlier, remember
from kilonova.db.listing import Page, paged
from kilonova.db.statements import Conversions, Row, Statement, as_came, converted, read
from kilonova.db.types import Id, Name, Timestamp
from kilonova.image.schema import idempotency, metadata

images = sa.Table(
    "image",
    metadata,
    sa.Column("id", Id(), primary_key=True),
    sa.Column("name", Name()),
    sa.Column("status", sa.String(20), nullable=False),
    sa.Column("visibility", sa.String(20), nullable=False),
    sa.Column("owner", Id(), index=True),
    sa.Column("protected", sa.Boolean, nullable=False),
    sa.Column("os_hidden", sa.Boolean, nullable=False),
    sa.Column("disk_format", sa.String(20)),
    sa.Column("container_format", sa.String(20)),
    sa.Column("min_disk", sa.Integer, nullable=False),
    sa.Column("min_ram", sa.Integer, nullable=False),
    sa.Column("size", sa.BigInteger),
    sa.Column("virtual_size", sa.BigInteger),
    sa.Column("checksum", sa.String(32)),
    sa.Column("os_hash_algo", sa.String(20)),
    sa.Column("os_hash_value", sa.String(128)),
    sa.Column("properties", sa.JSON, nullable=False),
    sa.Column("locations", sa.JSON(none_as_null=True)),
    sa.Column("created_at", Timestamp(), nullable=False),
    sa.Column("updated_at", Timestamp(), nullable=False),
    sa.Index("image_by_created", "created_at", "id"),
)
tags = sa.Table(
    "image_tag",
    metadata,
    sa.Column("image_id", Id(), sa.ForeignKey("image.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("tag", Name(), primary_key=True),
)
members = sa.Table(
    "image_member",
    metadata,
    sa.Column("image_id", Id(), sa.ForeignKey("image.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("member_id", Id(), primary_key=True),
    sa.Column("status", sa.String(20), nullable=False),
    sa.Column("created_at", Timestamp(), nullable=False),
    sa.Column("updated_at", Timestamp(), nullable=False),
    sa.Index("image_member_by_member", "member_id"),
)

RESERVED = "os_glance"  # begins the names of properties that only this service writes

SORT_COLUMNS = {
    "id": images.c.id,
    "name": sa.func.coalesce(images.c.name, ""),
    "status": images.c.status,
    "visibility": images.c.visibility,
    "owner": sa.func.coalesce(images.c.owner, ""),
    "disk_format": sa.func.coalesce(images.c.disk_format, ""),
    "container_format": sa.func.coalesce(images.c.container_format, ""),
    "size": sa.func.coalesce(images.c.size, -1),
    "virtual_size": sa.func.coalesce(images.c.virtual_size, -1),
    "min_disk": images.c.min_disk,
    "min_ram": images.c.min_ram,
    "protected": images.c.protected,
    "os_hidden": images.c.os_hidden,
    "created_at": images.c.created_at,
    "updated_at": images.c.updated_at,
}


class Location(msgspec.Struct):
    """Where an image's data is: in a store of ours (no URL), or at a URL that a user gave."""

    store: str = ""  # "" is the default store
    url: str = ""
    metadata: dict[str, Any] = {}


class Image(msgspec.Struct):
    """An image's metadata."""

    id: str
    name: str | None
    status: str  # queued | saving | uploading | importing | active | deactivated | killed
    visibility: str  # public | private | shared | community
    owner: str | None
    created_at: datetime
    updated_at: datetime
    protected: bool = False
    os_hidden: bool = False
    disk_format: str | None = None
    container_format: str | None = None
    min_disk: int = 0
    min_ram: int = 0
    size: int | None = None
    virtual_size: int | None = None
    checksum: str | None = None
    os_hash_algo: str | None = None
    os_hash_value: str | None = None
    properties: dict[str, Any] = {}  # texts; kernel_id and ramdisk_id may be null
    locations: list[Location] | None = None
    tags: list[str] = []

    @property
    def places(self) -> list[Location]:
        """Where the data is; images of before stores had names are in the default one."""
        if self.locations is None:
            return [Location()] if self.status in ("active", "deactivated") else []
        return self.locations


# In the order of the struct's fields: a row becomes an Image by position, which a list of a thousand feels.
_SELECT = sa.select(*(images.c[name] for name in Image.__struct_fields__ if name != "tags"))


class Member(msgspec.Struct):
    """A project that an image is shared with."""

    image_id: str
    member_id: str
    status: str  # pending | accepted | rejected
    created_at: datetime
    updated_at: datetime


class Filters(msgspec.Struct):
    """What a list asks for."""

    project_id: str  # whose view; "" sees all (admin)
    equal: dict[str, Any] = {}
    within: dict[str, list[str]] = {}
    tags: list[str] = []
    visibility: str = ""  # "" : public, own, shared and accepted
    member_status: str = "accepted"
    size_min: int | None = None
    size_max: int | None = None
    created: list[tuple[str, datetime]] = []
    updated: list[tuple[str, datetime]] = []
    properties: dict[str, str] = {}


def insert_image(connection: Connection, image: Image, key: str, user_id: str) -> Image:
    """The new image; or the one that the same idempotency key made before."""
    if (known := earlier(connection, idempotency, key, user_id)) is not None:
        return get_image(connection, known)
    if connection.scalar(sa.select(images.c.id).where(images.c.id == image.id)) is not None:
        raise conflict(f"Image ID {image.id} already exists!")
    connection.execute(images.insert().values(**_row(image)))
    _set_tags(connection, image.id, image.tags)
    remember(connection, idempotency, key, user_id, image.id, image.created_at)
    return image


_ONE = Statement(_SELECT.where(images.c.id == sa.bindparam("id")))


def get_image(connection: Connection, image_id: str) -> Image:
    """The image with its tags; NOT_FOUND when it is not there."""
    row = _ONE.first(connection, id=image_id)
    if row is None:
        raise not_found("Image", image_id)
    image = _image(row)
    image.tags = _tags_of(connection, [image_id]).get(image_id, [])
    return image


def visible_image(connection: Connection, image_id: str, project_id: str) -> Image:
    """The image if the project may see it ("" sees all); otherwise NOT_FOUND, as if it did not exist."""
    image = get_image(connection, image_id)
    if not _may_see(connection, project_id, image):
        raise not_found("Image", image_id)
    return image


def _may_see(connection: Connection, project_id: str, image: Image | Found) -> bool:
    if not project_id or image.visibility in ("public", "community") or image.owner == project_id:
        return True
    return image.visibility == "shared" and _member(connection, image.id, project_id) is not None


class Found(NamedTuple):
    """An image as the database has it: plain values, so that how it looks can be remembered by them."""

    row: Row
    convert: Conversions
    tags: tuple[str, ...]

    @property
    def id(self) -> str:
        """The image's."""
        return str(self.row[0])

    @property
    def visibility(self) -> str:
        """Who may see it."""
        return str(self.row[_VISIBILITY])

    @property
    def owner(self) -> str | None:
        """Whose it is."""
        return self.row[_OWNER]  # type: ignore[no-any-return]

    def image(self) -> Image:
        """The image that it is."""
        image = _image(converted(self.row, self.convert))
        image.tags = list(self.tags)
        return image


_VISIBILITY, _OWNER = (Image.__struct_fields__.index(name) for name in ("visibility", "owner"))
_IS_TAGGED = sa.type_coerce(sa.exists(sa.literal(1)).where(tags.c.image_id == images.c.id), sa.Integer)
_ONE_AS_CAME = Statement(_SELECT.add_columns(_IS_TAGGED).where(images.c.id == sa.bindparam("id")))


def find_image(connection: Connection, image_id: str, project_id: str) -> Found:
    """What `visible_image` finds, as the database has it."""
    rows, convert = _ONE_AS_CAME.as_came(connection, id=image_id)
    if not rows:
        raise not_found("Image", image_id)
    *row, is_tagged = rows[0]
    tagged = _tags_of(connection, [image_id])[image_id] if is_tagged else []
    found = Found(tuple(row), convert, tuple(tagged))
    if not _may_see(connection, project_id, found):
        raise not_found("Image", image_id)
    return found


def list_images(connection: Connection, filters: Filters, page: Page) -> list[Found]:
    """A page of images that the filters' project may see."""
    if page.marker is None and filters == Filters(filters.project_id, _SHOWN):
        statement = _unfiltered(connection, not filters.project_id, page)
        most = _NO_LIMIT if page.limit is None else page.limit
        rows, convert = statement.as_came(connection, project=filters.project_id, shown=False, most=most)
    else:
        seen = _visible(filters)
        chosen = _SELECT.where(seen, *_conditions(filters))
        rows, convert = as_came(connection, paged(connection, chosen, SORT_COLUMNS, page, marker_filter=seen))
    tagged = _tags_of(connection, [str(row[0]) for row in rows])
    return [Found(row, convert, tuple(tagged.get(row[0], ()))) for row in rows]


_NO_LIMIT = 1 << 31
_SHOWN = {"os_hidden": False}
_known: dict[tuple[Any, ...], Statement] = {}


def _unfiltered(connection: Connection, everything: bool, page: Page) -> Statement:
    """The list that most ask for: all that the project may see and is not hidden, from the start."""
    shape = (everything, page.sorts, page.reverse)
    if shape not in _known:
        project: Any = sa.bindparam("project", type_=images.c.owner.type)
        mine = sa.select(members.c.image_id).where(members.c.member_id == project, members.c.status == "accepted")
        shared = sa.and_(images.c.visibility == "shared", images.c.id.in_(mine))
        seen = sa.or_(images.c.visibility == "public", images.c.owner == project, shared)
        chosen = _SELECT.where(images.c.os_hidden == sa.bindparam("shown"), *([] if everything else [seen]))
        whole = msgspec.structs.replace(page, limit=None)
        _known[shape] = Statement(paged(connection, chosen, SORT_COLUMNS, whole).limit(sa.bindparam("most")))
    return _known[shape]


def _visible(filters: Filters) -> sa.ColumnElement[bool]:
    mine = images.c.owner == filters.project_id
    shared_rows = sa.select(members.c.image_id).where(members.c.member_id == filters.project_id)
    if filters.member_status != "all":
        shared_rows = shared_rows.where(members.c.status == filters.member_status)
    shared = sa.and_(images.c.visibility == "shared", images.c.id.in_(shared_rows))
    everything = not filters.project_id
    match filters.visibility:
        case "public" | "community":
            return images.c.visibility == filters.visibility
        case "private":
            return sa.and_(images.c.visibility == "private", sa.true() if everything else mine)
        case "shared":
            both = sa.or_(sa.and_(images.c.visibility == "shared", mine), shared)
            return images.c.visibility == "shared" if everything else both
        case "all":
            return sa.true() if everything else sa.or_(images.c.visibility.in_(("public", "community")), mine, shared)
        case _:
            return sa.true() if everything else sa.or_(images.c.visibility == "public", mine, shared)


def _conditions(filters: Filters) -> list[sa.ColumnElement[bool]]:
    made: list[sa.ColumnElement[bool]] = []
    for name, value in filters.equal.items():
        made.append(images.c[name].is_(None) if value is None else images.c[name] == value)
    made += [images.c[name].in_(values) for name, values in filters.within.items()]
    made += [images.c.id.in_(sa.select(tags.c.image_id).where(tags.c.tag == tag)) for tag in filters.tags]
    if filters.size_min is not None:
        made.append(images.c.size >= filters.size_min)
    if filters.size_max is not None:
        made.append(images.c.size <= filters.size_max)
    for column, wanted in ((images.c.created_at, filters.created), (images.c.updated_at, filters.updated)):
        made += [_compare(column, operator, moment) for operator, moment in wanted]
    for name, text in filters.properties.items():
        made.append(images.c.properties[name].as_string() == text)
    return made


def _compare(column: sa.Column[datetime], operator: str, moment: datetime) -> sa.ColumnElement[bool]:
    by_name = {
        "gt": column > moment,
        "gte": column >= moment,
        "lt": column < moment,
        "lte": column <= moment,
        "eq": column == moment,
        "neq": column != moment,
    }
    return by_name[operator]


def patchable(image: Image) -> dict[str, Any]:
    """What a patch is judged by and may change: a copy, without what imports note on the image."""
    own = {name: value for name, value in image.properties.items() if not name.startswith(RESERVED)}
    fields = ("status", "name", "visibility", "owner", "protected", "os_hidden", "disk_format", "container_format",
              "min_disk", "min_ram")  # fmt: skip
    return {name: getattr(image, name) for name in fields} | {"properties": own, "tags": sorted(image.tags)}


def update_image(connection: Connection, image: Image, before: dict[str, Any]) -> Image | None:
    """Replace the image's metadata and tags; its status, data and what imports note on it stay.

    None, and nothing is written, when the image is no longer what it was when the change was made to it (`before`)."""
    known = get_image(connection, image.id)
    if patchable(known) != before:
        return None
    kept = {"status", "size", "virtual_size", "checksum", "os_hash_algo", "os_hash_value", "created_at", "id",
            "locations"}  # fmt: skip
    values = {name: value for name, value in _row(image).items() if name not in kept}
    noted = {name: value for name, value in known.properties.items() if name.startswith(RESERVED)}
    values["properties"] = {n: v for n, v in image.properties.items() if not n.startswith(RESERVED)} | noted
    connection.execute(images.update().where(images.c.id == image.id).values(**values))
    _set_tags(connection, image.id, image.tags)
    return get_image(connection, image.id)


def delete_image(connection: Connection, image_id: str) -> None:
    """The image, its tags and members are gone."""
    connection.execute(tags.delete().where(tags.c.image_id == image_id))
    connection.execute(members.delete().where(members.c.image_id == image_id))
    connection.execute(
        sa.delete(sa.table("image_upload", sa.column("image_id"))).where(sa.column("image_id") == image_id)
    )
    if not connection.execute(images.delete().where(images.c.id == image_id)).rowcount:
        raise not_found("Image", image_id)


def add_tag(connection: Connection, image_id: str, tag: str, now: datetime) -> None:
    """The image has the tag."""
    if connection.scalar(sa.select(tags.c.tag).where(tags.c.image_id == image_id, tags.c.tag == tag)) is None:
        connection.execute(tags.insert().values(image_id=image_id, tag=tag))
        connection.execute(images.update().where(images.c.id == image_id).values(updated_at=now))


def drop_tag(connection: Connection, image_id: str, tag: str, now: datetime) -> None:
    """The image no longer has the tag; NOT_FOUND when it had not."""
    if not connection.execute(tags.delete().where(tags.c.image_id == image_id, tags.c.tag == tag)).rowcount:
        raise not_found("Tag", tag)
    connection.execute(images.update().where(images.c.id == image_id).values(updated_at=now))


def members_of(connection: Connection, image_id: str, only: str = "") -> list[Member]:
    """Members of the image; `only` restricts to one project's own membership."""
    found = sa.select(members).where(members.c.image_id == image_id).order_by(members.c.created_at)
    if only:
        found = found.where(members.c.member_id == only)
    return [Member(**row) for row in connection.execute(found).mappings()]


def add_member(connection: Connection, member: Member) -> Member:
    """Share the image; EXISTS when it is shared with that project already."""
    if _member(connection, member.image_id, member.member_id) is not None:
        raise exists(f"Member {member.member_id} is duplicated for image {member.image_id}")
    connection.execute(members.insert().values(**{n: getattr(member, n) for n in member.__struct_fields__}))
    return member


def set_member_status(connection: Connection, image_id: str, member_id: str, status: str, now: datetime) -> Member:
    """The member accepts, rejects, or thinks again."""
    mine = members.update().where(members.c.image_id == image_id, members.c.member_id == member_id)
    if not connection.execute(mine.values(status=status, updated_at=now)).rowcount:
        raise not_found("Image member", member_id)
    return members_of(connection, image_id, member_id)[0]


def drop_member(connection: Connection, image_id: str, member_id: str) -> None:
    """The image is no longer shared with the project."""
    gone = members.delete().where(members.c.image_id == image_id, members.c.member_id == member_id)
    if not connection.execute(gone).rowcount:
        raise not_found("Image member", member_id)


def _member(connection: Connection, image_id: str, member_id: str) -> str | None:
    found = sa.select(members.c.status).where(members.c.image_id == image_id, members.c.member_id == member_id)
    return connection.scalar(found)


def _set_tags(connection: Connection, image_id: str, wanted: list[str]) -> None:
    connection.execute(tags.delete().where(tags.c.image_id == image_id))
    if wanted:
        connection.execute(tags.insert(), [{"image_id": image_id, "tag": tag} for tag in dict.fromkeys(wanted)])


def _tags_of(connection: Connection, ids: list[str]) -> dict[str, list[str]]:
    by_image: dict[str, list[str]] = {}
    columns = (tags.c.image_id, tags.c.tag)
    for image_id, tag in read(connection, columns, {"image_id": ids}, order=(tags.c.tag,)) if ids else ():
        by_image.setdefault(image_id, []).append(tag)
    return by_image


def _image(row: Row) -> Image:
    image = Image(*row)
    if image.locations:
        image.locations = msgspec.convert(image.locations, list[Location])
    return image


def _row(image: Image) -> dict[str, Any]:
    values = {name: getattr(image, name) for name in image.__struct_fields__ if name != "tags"}
    return values | {"locations": msgspec.to_builtins(image.locations)}
