"""SQL about images' data: who may bring it, where it is, what imports note on the image, and how much there is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import conflict, forbidden, not_found, over_quota
from kilonova.base.units import MIB
from kilonova.db.database import says
from kilonova.image.image.store import Image, Location, get_image, images

TASK = "os_glance_import_task"  # the operation that imports the image now; not shown
IMPORTING = "os_glance_importing_to_stores"
FAILED = "os_glance_failed_import"


def _change(connection: Connection, image: Image, values: dict[str, Any]) -> None:
    """Write, unless somebody else moved the image meanwhile: then CONFLICT."""
    mine = images.update().where(images.c.id == image.id, images.c.status == image.status)
    if not connection.execute(mine.values(**values)).rowcount:
        raise conflict(f"Image {image.id} was changed by another request.", hint="Look at it and try again.")


def move(connection: Connection, image_id: str, allowed: Sequence[str], status: str, now: datetime) -> Image:
    """To `status` from one of `allowed`, by compare-and-set: of two that race one gets CONFLICT."""
    mine = images.update().where(images.c.id == image_id, images.c.status.in_(allowed))
    if not connection.execute(mine.values(status=status, updated_at=now)).rowcount:
        image = get_image(connection, image_id)
        raise conflict(
            f"Image status transition from {image.status} to {status} is not allowed.",
            hint="Image data can be brought once; make a new image for new data." if status == "saving" else "",
        )
    return get_image(connection, image_id)


# ── imports


def begin_import(
    connection: Connection, image_id: str, operation_id: str, wanted: tuple[str, list[str]], now: datetime
) -> Image:
    """`wanted`: (the status it must have, the stores it goes to). Of two imports of an image one gets CONFLICT.

    An image that is queued has no data yet: a place that was refused goes, as what comes is not there."""
    status, stores = wanted
    image = get_image(connection, image_id)
    if image.properties.get(TASK) or image.status == "importing":
        raise conflict(f"Image {image_id} is being imported already.", hint="Wait for its task to end.")
    if image.status != status:
        raise conflict(f"Image {image_id} needs to be in {status} state; it is {image.status}.")
    properties = image.properties | {TASK: operation_id, IMPORTING: ",".join(stores), FAILED: ""}
    becomes = "active" if status == "active" else "importing"
    values: dict[str, Any] = {"status": becomes, "properties": properties, "updated_at": now}
    _change(connection, image, values | ({"locations": []} if status == "queued" else {}))
    return get_image(connection, image_id)


def _mine(connection: Connection, image_id: str, operation_id: str) -> Image:
    """The image while the operation imports it; NOT_FOUND when it was deleted, so that the import undoes itself."""
    image = get_image(connection, image_id)
    if image.properties.get(TASK) != operation_id:
        raise not_found("Import of image", image_id)
    return image


def stored(connection: Connection, image_id: str, operation_id: str, store: str, ok: bool) -> None:
    """The data reached a store, or could not."""
    image = _mine(connection, image_id, operation_id)
    properties = dict(image.properties)
    left = [one for one in str(properties.get(IMPORTING, "")).split(",") if one and one != store]
    properties[IMPORTING] = ",".join(left)
    locations = image.places
    if ok:
        if store not in [place.store for place in locations]:
            locations = [*locations, Location(store)]
    else:
        failed = [one for one in str(properties.get(FAILED, "")).split(",") if one]
        properties[FAILED] = ",".join(dict.fromkeys([*failed, store]))
    _change(connection, image, {"properties": properties, "locations": msgspec.to_builtins(locations)})


@says("UPDATE images SET status = active")
def end_import(
    connection: Connection, image_id: str, operation_id: str, values: dict[str, Any], properties: dict[str, str]
) -> None:
    """importing → active with the data's facts and injected properties."""
    image = _mine(connection, image_id, operation_id)
    kept = {name: value for name, value in image.properties.items() if name != TASK}
    _change(connection, image, {**values, "properties": kept | properties})


def give_up_import(connection: Connection, image_id: str, operation_id: str, now: datetime) -> None:
    """importing → queued, ready for another try; an active image that was to be copied stays active."""
    if connection.scalar(sa.select(images.c.id).where(images.c.id == image_id)) is None:
        return
    image = get_image(connection, image_id)
    if image.properties.get(TASK) != operation_id:
        return
    left = str(image.properties.get(IMPORTING, ""))
    failed = ",".join(one for one in (str(image.properties.get(FAILED, "")), left) if one)
    properties = {n: v for n, v in image.properties.items() if n != TASK} | {IMPORTING: "", FAILED: failed}
    values: dict[str, Any] = {"properties": properties, "updated_at": now}
    if image.status == "importing":
        keep = [place for place in image.places if place.url]  # what a user told stays until it is told anew
        values |= {"status": "queued", "size": None, "locations": msgspec.to_builtins(keep)}
    _change(connection, image, values)


def give_up_location(connection: Connection, image_id: str, operation_id: str, refused: bool, now: datetime) -> None:
    """The location could not be hashed: an image that waited for that is queued, and so is one whose data was
    `refused`; one that is in use already only loses the promise of a hash."""
    if connection.scalar(sa.select(images.c.id).where(images.c.id == image_id)) is None:
        return
    image = get_image(connection, image_id)
    if image.properties.get(TASK) != operation_id:
        return
    properties = {name: value for name, value in image.properties.items() if name != TASK}
    values: dict[str, Any] = {"properties": properties, "updated_at": now, "os_hash_algo": None}
    if image.status == "importing" or refused:
        values |= {"status": "queued", "size": None}
    _change(connection, image, values)


# ── locations


def set_locations(connection: Connection, image: Image, locations: list[Location], values: dict[str, Any]) -> Image:
    """The image's data is at `locations` now; `values` go along (status, size, hashes)."""
    _change(connection, image, {**values, "locations": msgspec.to_builtins(locations)})
    return get_image(connection, image.id)


def leave_store(connection: Connection, image_id: str, store: str, default: str, now: datetime) -> None:
    """The image is no longer in that store. The last one stays: FORBIDDEN."""
    image = get_image(connection, image_id)
    left = [place for place in image.places if (place.store or default) != store]
    if len(left) == len(image.places):
        raise not_found("Image in store", store)
    if not left:
        raise forbidden(f"Store {store} is the only one that has image {image_id}.", hint="Delete the image instead.")
    _change(connection, image, {"locations": msgspec.to_builtins(left), "updated_at": now})


# ── how much there is


def usage(connection: Connection, project_id: str) -> dict[str, int]:
    """What counts against the project's limits: sizes in MiB, rounded up."""
    mine = images.c.owner == project_id
    staged = images.c.status.in_(("uploading", "importing"))

    def total(*which: sa.ColumnElement[bool]) -> int:
        size = sa.select(sa.func.coalesce(sa.func.sum(images.c.size), 0)).where(mine, *which)
        return -(-int(connection.scalar(size) or 0) // MIB)

    def count(*which: sa.ColumnElement[bool]) -> int:
        return int(connection.scalar(sa.select(sa.func.count()).select_from(images).where(mine, *which)) or 0)

    return {
        "image_size_total": total(images.c.status.in_(("active", "deactivated"))),
        "image_stage_total": total(staged),
        "image_count_total": count(),
        "image_count_uploading": count(images.c.status.in_(("saving", "uploading", "importing"))),
    }


def require_room(connection: Connection, project_id: str, limits: dict[str, int], wanted: dict[str, int]) -> None:
    """OVER_QUOTA unless the project may have this much more; in the transaction of what is written, so that no race
    passes a limit. For sizes, 0: it must not be full yet."""
    checked = {name: more for name, more in wanted.items() if limits.get(name, -1) >= 0}
    if not checked:
        return
    used = usage(connection, project_id)
    for name, more in checked.items():
        if used[name] + max(more, 1) > limits[name]:
            raise over_quota(name, wanted=more, used=used[name], limit=limits[name])
