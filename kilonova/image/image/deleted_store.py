"""SQL about deleted images whose data is still to be dropped: a store that is away, or a process that dies between the
two, must not leave bytes that nobody knows of."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import conflict
from kilonova.db.types import Id, Timestamp
from kilonova.image.image import store
from kilonova.image.image.store import Image
from kilonova.image.schema import metadata

deleted = sa.Table(
    "deleted_data",
    metadata,
    sa.Column("image_id", Id(), primary_key=True),
    sa.Column("stores", sa.JSON, nullable=False),
    sa.Column("deleted_at", Timestamp(), nullable=False),
)

OWN_TIME = timedelta(minutes=1)  # that whoever deleted the image has to drop its data


def delete_image(connection: Connection, image: Image, now: datetime) -> list[str]:
    """The image is gone; the names of the stores that have its data, which is noted."""
    stores = [place.store for place in image.places if not place.url]
    store.delete_image(connection, image.id)
    connection.execute(deleted.insert().values(image_id=image.id, stores=stores, deleted_at=now))
    return stores


def require_free(connection: Connection, image_id: str) -> None:
    """CONFLICT while data of a deleted image of that id is still to be dropped: it must not be taken for another's."""
    if connection.scalar(sa.select(deleted.c.image_id).where(deleted.c.image_id == image_id)) is not None:
        raise conflict(f"Image ID {image_id} was used by an image that is being deleted.", hint="Choose another id.")


def dropped(connection: Connection, image_id: str) -> None:
    """Nothing of the data is left."""
    connection.execute(deleted.delete().where(deleted.c.image_id == image_id))


def left_over(connection: Connection, now: datetime) -> list[tuple[str, list[str]]]:
    """(image id, names of stores) of data that should be gone by now."""
    found = sa.select(deleted.c.image_id, deleted.c.stores).where(deleted.c.deleted_at < now - OWN_TIME)
    return [(image_id, stores) for image_id, stores in connection.execute(found)]
