"""SQL about uploads under way: one row each, held by the process that brings the data as long as it lives."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import conflict
from kilonova.db.database import says
from kilonova.db.types import Id, Timestamp
from kilonova.image.image.data_store import move, require_room
from kilonova.image.image.store import Image, images
from kilonova.image.schema import metadata

uploads = sa.Table(
    "image_upload",
    metadata,
    sa.Column("image_id", Id(), primary_key=True),
    sa.Column("upload_id", Id(), nullable=False),
    sa.Column("held_until", Timestamp(), nullable=False, index=True),
)

HELD = timedelta(minutes=2)
NOBODYS = timedelta(days=1)  # an upload of a release that held none is given up so long after its begin


@says("UPDATE images SET status = saving")
def begin_upload(
    connection: Connection, image: Image, upload_id: str, limits: dict[str, int], wanted: dict[str, int], now: datetime
) -> Image:
    """queued → saving, held: nobody else can bring data. A place that was refused goes: the new data is not there."""
    require_room(connection, image.owner or "", limits, wanted)
    moved = move(connection, image.id, ("queued",), "saving", now)
    connection.execute(images.update().where(images.c.id == image.id).values(locations=[]))
    connection.execute(uploads.delete().where(uploads.c.image_id == image.id))
    connection.execute(uploads.insert().values(image_id=image.id, upload_id=upload_id, held_until=now + HELD))
    return moved


def hold_upload(connection: Connection, image_id: str, upload_id: str, now: datetime) -> None:
    """It is alive. CONFLICT when it was given up, or its image deleted: its data must not be kept."""
    if not connection.execute(_one(uploads.update(), image_id, upload_id).values(held_until=now + HELD)).rowcount:
        raise conflict(f"The upload of image {image_id} was given up.", hint="Upload the data again.")


def is_held(connection: Connection, image_id: str, upload_id: str) -> bool:
    """Whether it is this upload whose data the image will have."""
    return connection.scalar(_one(sa.select(uploads.c.image_id), image_id, upload_id)) is not None


def end_upload(connection: Connection, image_id: str, upload_id: str, facts: dict[str, Any], now: datetime) -> bool:
    """saving → active (or uploading, staged) with the data's facts, or → queued without. False: it was given up, or
    the image deleted."""
    if not connection.execute(_one(uploads.delete(), image_id, upload_id)).rowcount:
        return False
    mine = images.update().where(images.c.id == image_id, images.c.status == "saving")
    return bool(connection.execute(mine.values(updated_at=now, **facts)).rowcount)


def _one(statement: Any, image_id: str, upload_id: str) -> Any:
    return statement.where(uploads.c.image_id == image_id, uploads.c.upload_id == upload_id)


def reset_interrupted_uploads(connection: Connection, now: datetime) -> int:
    """saving → queued for all uploads; call when no API process runs."""
    connection.execute(uploads.delete())
    mine = images.update().where(images.c.status == "saving")
    return connection.execute(mine.values(status="queued", updated_at=now)).rowcount


def give_up_abandoned(connection: Connection, now: datetime) -> list[str]:
    """saving → queued for uploads that nobody holds any more; the ids of their images."""
    held = sa.select(uploads.c.image_id)
    silent = images.c.id.in_(held.where(uploads.c.held_until < now))
    nobodys = sa.and_(images.c.id.not_in(held), images.c.updated_at < now - NOBODYS)
    found = sa.select(images.c.id).where(images.c.status == "saving", sa.or_(silent, nobodys))
    ids = list(connection.scalars(found))
    connection.execute(uploads.delete().where(uploads.c.held_until < now))
    if ids:
        connection.execute(images.update().where(images.c.id.in_(ids)).values(status="queued", updated_at=now))
    return ids
