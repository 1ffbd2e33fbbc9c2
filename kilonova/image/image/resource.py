"""Images: create, list, show, update, delete, tags. Body shapes: Image API v2 reference."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection

from kilonova.base.faults import Fault, Kind, conflict, forbidden, invalid, not_found
from kilonova.db.listing import Page
from kilonova.http.listing import page_from
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.http.schema import decode_json
from kilonova.image.core import ImageService
from kilonova.image.image import data_store, deleted_store, store
from kilonova.image.image.drop_data import drop_data
from kilonova.image.image.locations import change_locations
from kilonova.image.image.patch import VISIBILITIES, apply, assign
from kilonova.image.image.store import Filters, Found, Image
from kilonova.policy.rules import Rule

log = logging.getLogger(__name__)

PATCH_TYPES = ("application/openstack-images-v2.1-json-patch", "application/openstack-images-v2.0-json-patch")
PATCH_TRIES = 10
SORTABLE = set(store.SORT_COLUMNS)
EQUALS = ("name", "status", "owner", "disk_format", "container_format", "min_disk", "min_ram", "checksum",
          "os_hash_algo", "os_hash_value", "id", "size", "virtual_size")  # fmt: skip
LISTED = ("id", "name", "status", "disk_format", "container_format")


def target(image: Image | Found) -> dict[str, Any]:
    """What policy rules look at."""
    return {"project_id": image.owner, "owner": image.owner, "visibility": image.visibility, "id": image.id}


async def seen(service: ImageService, request: Request[Any]) -> Image:
    """The image of the path, if the caller may know of it."""
    image = await service.db.read(store.visible_image, request.path["image_id"], _view_of(request))
    _may_know(request, image)
    return image


def _view_of(request: Request[Any]) -> str:
    """The project that looks; "" sees all."""
    return "" if request.allows("context_is_admin") else request.caller.project_id or "-"


def _may_know(request: Request[Any], image: Image | Found) -> None:
    """NOT_FOUND for a token of the wrong scope or without a role: it learns nothing."""
    if not request.allows("get_image", target(image)):
        raise not_found("Image", image.id)


async def create(service: ImageService, request: Request[Any]) -> Answer:
    body = decode_json(await request.read())
    if not isinstance(body, dict):
        raise invalid("The request body must be a JSON object.")
    now = service.world.clock.now()
    caller = request.caller
    image = Image("", None, "queued", "shared", caller.project_id or None, now, now)
    for name, value in body.items():
        assign(image, name, value, creating=True)
    request.enforce(target(image))
    _may_publish(request, image)
    if image.owner != caller.project_id and not request.allows("context_is_admin"):
        raise forbidden("You are not permitted to create images owned by another project.")
    image.id = image.id or service.world.ids.uuid()
    limits = await service.limits_of(request, image.owner)

    def insert(connection: Connection) -> Image:
        if "id" in body:
            deleted_store.require_free(connection, image.id)
        data_store.require_room(connection, image.owner or "", limits, {"image_count_total": 1})
        return store.insert_image(connection, image, request.idempotency_key, caller.user_id)

    made = await service.db.write(insert)
    headers = {"Location": f"{request.origin}/v2/images/{made.id}"}
    headers["OpenStack-image-import-methods"] = ",".join(service.settings.import_methods)
    if service.stores.several:
        headers["OpenStack-image-store-ids"] = ",".join(one.id for one in service.stores.writable)
    return Answer(service.look.view(made), 201, headers)


async def show(service: ImageService, request: Request[Any]) -> msgspec.Raw:
    found = await service.db.read(store.find_image, request.path["image_id"], _view_of(request))
    _may_know(request, found)
    request.enforce(target(found))
    return service.look.drawn(found)


async def list_(service: ImageService, request: Request[Any]) -> dict[str, Any]:
    request.enforce()
    page = page_from(request.query, sortable=SORTABLE, default=(("created_at", "desc"), ("id", "desc")))
    if request.query.get("limit") is None:
        page = Page(25 if page.limit is None else min(page.limit, 25), page.marker, page.sorts)
    filters = _filters(request)
    found = await service.db.read(store.list_images, filters, page)
    answer: dict[str, Any] = {"images": [service.look.drawn(one) for one in found], "schema": "/v2/schemas/images"}
    kept = "&".join(f"{name}={value}" for name, value in request.query.pairs if name != "marker")
    answer["first"] = "/v2/images" + (f"?{kept}" if kept else "")
    if page.limit and len(found) == page.limit:
        answer["next"] = f"/v2/images?{kept}{'&' if kept else ''}marker={found[-1].id}"
    return answer


def _filters(request: Request[Any]) -> Filters:
    query = request.query
    admin = request.allows("context_is_admin")
    made = Filters("" if admin else request.caller.project_id or "-")
    for name, text in query.pairs:
        if name in ("limit", "marker", "sort_key", "sort_dir", "sort"):
            continue
        _filter(made, name, text, query)
    made.equal.setdefault("os_hidden", False)
    return made


def _filter(made: Filters, name: str, text: str, query: Any) -> None:
    if name == "visibility":
        if text not in (*VISIBILITIES, "all"):
            raise invalid(f"Invalid visibility value: {text[:40]}", hint=f"Known: {', '.join((*VISIBILITIES, 'all'))}.")
        made.visibility = text
    elif name == "member_status":
        if text not in ("pending", "accepted", "rejected", "all"):
            raise invalid(f"Invalid member status: {text[:40]}")
        made.member_status = text
    elif name == "tag":
        made.tags.append(text)
    elif name in ("protected", "os_hidden"):
        made.equal[name] = query.boolean(name)
    elif name in ("size_min", "size_max"):
        setattr(made, name, query.integer(name))
    elif name in ("created_at", "updated_at"):
        (made.created if name == "created_at" else made.updated).append(_moment(name, text))
    elif name in LISTED and text.startswith("in:"):
        made.within[name] = [part.strip('"') for part in text[3:].split(",")]
    elif name in ("min_disk", "min_ram", "size", "virtual_size"):
        made.equal[name] = query.integer(name)
    elif name in EQUALS:
        made.equal[name] = text
    else:
        made.properties[name] = text


def _moment(name: str, text: str) -> tuple[str, datetime]:
    operator, colon, rest = text.partition(":")
    if operator not in ("gt", "gte", "lt", "lte", "eq", "neq") or not colon:
        operator, rest = "eq", text
    try:
        return operator, msgspec.convert(rest if rest.endswith("Z") or "+" in rest else rest + "Z", datetime)
    except msgspec.ValidationError:
        raise invalid(f"Invalid time in {name}: {text[:60]!r}.", hint="For example gte:2026-11-20T12:00:00Z.") from None


async def update(service: ImageService, request: Request[Any]) -> dict[str, Any]:
    if request.headers.get("content-type", "").split(";")[0].strip() not in PATCH_TYPES:
        raise Fault(Kind.INVALID, "Unsupported Media Type", hint=f"Send {PATCH_TYPES[0]}.", data={"status": 415})
    changes = decode_json(await request.read())  # before the image is looked at: a body may come as slowly as it likes
    if not isinstance(changes, list):
        raise invalid("Request body must be a JSON array of operation objects.")
    for attempt in range(PATCH_TRIES):
        if (changed := await _patched(service, request, changes, with_locations=attempt == 0)) is not None:
            return service.look.view(changed)
    raise conflict(f"Image {request.path['image_id']} is being changed by others.", hint="Try again.")


async def _patched(
    service: ImageService, request: Request[Any], changes: list[Any], *, with_locations: bool
) -> Image | None:
    """The image with the changes; None when it became another image meanwhile, so that they may mean something else."""
    image = await seen(service, request)
    request.enforce(target(image))
    owned(request, image)
    before = store.patchable(image)
    visibility, owner = image.visibility, image.owner
    moved = [found for change in changes if (found := apply(image, change)) is not None]
    if image.owner != owner and not request.allows("context_is_admin"):
        raise forbidden("Owner can't be updated by non admin.", hint="Share the image, or ask an administrator.")
    if image.visibility != visibility:
        _may_publish(request, image)
    image.updated_at = service.world.clock.now()
    for change in moved if with_locations else ():
        await change_locations(service, request, image, change)
        before["status"] = image.status
    return await service.db.write(store.update_image, image, before)


def owned(request: Request[Any], image: Image) -> None:
    if image.owner != request.caller.project_id and not request.allows("context_is_admin"):
        raise forbidden("You are not permitted to change this image.")


def _may_publish(request: Request[Any], image: Image) -> None:
    if image.visibility == "public":
        request.enforce(target(image), "publicize_image")
    elif image.visibility == "community":
        request.enforce(target(image), "communitize_image")


async def delete(service: ImageService, request: Request[Any]) -> None:
    image = await seen(service, request)
    request.enforce(target(image))
    owned(request, image)
    if image.protected:
        raise forbidden(f"Image {image.id} is protected and cannot be deleted.", hint="Set protected to false first.")
    stores = await service.db.write(deleted_store.delete_image, image, service.world.clock.now())
    try:
        await drop_data(service, image.id, stores)
    except Fault as fault:
        log.warning("the data of image %s is dropped later: %r", image.id, fault)


async def add_tag(service: ImageService, request: Request[Any]) -> None:
    image = await seen(service, request)
    request.enforce(target(image))
    owned(request, image)
    tag = request.path["tag"]
    if len(tag) > 255:
        raise invalid("A tag has at most 255 characters.")
    await service.db.write(store.add_tag, image.id, tag, service.world.clock.now())


async def drop_tag(service: ImageService, request: Request[Any]) -> None:
    image = await seen(service, request)
    request.enforce(target(image))
    owned(request, image)
    await service.db.write(store.drop_tag, image.id, request.path["tag"], service.world.clock.now())


OWNER = "(role:admin) or (role:member and project_id:%(project_id)s)"
READ = "(role:admin) or (role:reader and (project_id:%(project_id)s or 'shared':%(visibility)s or \
'community':%(visibility)s or 'public':%(visibility)s))"  # membership of shared images is checked by the store

DOWNLOAD = READ.replace("role:reader", "role:member")

RULES = (
    Rule("add_image", OWNER, "Create an image.", (("POST", "/v2/images"),)),
    Rule("get_image", READ, "Show an image.", (("GET", "/v2/images/{image_id}"),)),
    Rule("get_images", "role:admin or role:reader", "List images.", (("GET", "/v2/images"),)),
    Rule("modify_image", OWNER, "Change an image.", (("PATCH", "/v2/images/{image_id}"),)),
    Rule("delete_image", OWNER, "Delete an image.", (("DELETE", "/v2/images/{image_id}"),)),
    Rule("publicize_image", "rule:context_is_admin", "Make an image public."),
    Rule("communitize_image", OWNER, "Make an image visible to who knows its id."),
)

ROUTES = (
    Route(method="POST", path="/v2/images", handler=create, policy="add_image", raw=True, success=201),
    Route(method="GET", path="/v2/images", handler=list_, policy="get_images"),
    Route(method="GET", path="/v2/images/{image_id}", handler=show, policy="get_image", agents=True),
    Route(method="PATCH", path="/v2/images/{image_id}", handler=update, policy="modify_image", raw=True),
    Route(method="DELETE", path="/v2/images/{image_id}", handler=delete, policy="delete_image", success=204),
    Route(method="PUT", path="/v2/images/{image_id}/tags/{tag}", handler=add_tag, policy="modify_image", success=204),
    Route(
        method="DELETE", path="/v2/images/{image_id}/tags/{tag}", handler=drop_tag, policy="modify_image", success=204
    ),
)
