"""Deactivate and reactivate an image; take it out of one store; add and list its locations (v2.17)."""

from __future__ import annotations

from typing import Any

import msgspec

from kilonova.base.faults import conflict, forbidden, invalid
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.image.core import ImageService
from kilonova.image.image import data_store, store
from kilonova.image.image.locations import may_be_added, read_validation, require_plausible
from kilonova.image.image.resource import OWNER, owned, seen, target
from kilonova.image.image.store import Image
from kilonova.image.importing.begin import import_location
from kilonova.policy.rules import Rule


async def deactivate(service: ImageService, request: Request[Any]) -> None:
    """active → deactivated: only admins read the data. Again is fine."""
    await _switch(service, request, "active", "deactivated")


async def reactivate(service: ImageService, request: Request[Any]) -> None:
    """deactivated → active. Again is fine."""
    await _switch(service, request, "deactivated", "active")


async def _switch(service: ImageService, request: Request[Any], before: str, after: str) -> None:
    image = await seen(service, request)
    request.enforce(target(image))
    owned(request, image)
    if image.status not in (before, after):
        raise forbidden(f"Not allowed to {after.removesuffix('d')} an image in status '{image.status}'.")
    if image.status == before:
        await service.db.write(data_store.move, image.id, (before,), after, service.world.clock.now())


async def leave_store(service: ImageService, request: Request[Any]) -> None:
    """DELETE /v2/stores/{store}/{image}: the data goes from that store, and stays in another."""
    image = await service.db.read(
        store.visible_image,
        request.path["image_id"],
        "" if request.allows("context_is_admin") else request.caller.project_id or "-",
    )
    request.enforce(target(image))
    owned(request, image)
    if image.protected:
        raise forbidden(f"Image {image.id} is protected and cannot be deleted.", hint="Set protected to false first.")
    if image.status != "active":
        raise conflict(f"Only active images can be taken out of a store; this one is {image.status}.")
    wanted = service.stores.get(request.path["store_id"])
    if wanted.read_only:
        raise forbidden(f"Store {wanted.id} is read-only.")
    now, default = service.world.clock.now(), service.stores.default.id
    await service.db.write(data_store.leave_store, image.id, wanted.id, default, now)
    await service.stores.data(wanted.id).drop(image.id)


class NewLocation(msgspec.Struct):
    """POST /v2/images/{id}/locations."""

    url: str
    validation_data: dict[str, Any] = {}


async def add_location(service: ImageService, request: Request[NewLocation]) -> Answer:
    """The image's data is at a URL: verified by a task when hashes are given, hashed by one when not."""
    image = await seen(service, request)
    request.enforce(target(image))
    owned(request, image)
    if image.status != "queued":
        raise conflict(f"Image {image.id} is {image.status}: only a queued image takes a location.")
    if not image.disk_format or not image.container_format:
        raise invalid("Properties disk_format, container_format must be set prior to adding a location.")
    validation = None
    if request.body.validation_data:
        validation = read_validation(request.body.validation_data)
        require_plausible(validation)
    await may_be_added(service, request.body.url)
    await import_location(service, request, image, request.body.url, validation)
    return Answer(None, 202)


async def list_locations(service: ImageService, request: Request[Any]) -> list[dict[str, Any]]:
    """For services that clone data where it lies."""
    image: Image = await seen(service, request)
    request.enforce(target(image))
    return [service.look.told(image.id, place) for place in image.places]


_ONE = "/v2/images/{image_id}"
_LOCATIONS = _ONE + "/locations"
_STORE = "/v2/stores/{store_id}/{image_id}"
RULES = (
    Rule("deactivate", OWNER, "Deactivate an image.", (("POST", _ONE + "/actions/deactivate"),)),
    Rule("reactivate", OWNER, "Reactivate an image.", (("POST", _ONE + "/actions/reactivate"),)),
    Rule("get_image_location", "(role:admin) or (role:reader and project_id:%(project_id)s)", "See locations."),
    Rule("set_image_location", OWNER, "Add or change locations by patching.", (("PATCH", _ONE),)),
    Rule("delete_image_location", "rule:context_is_admin", "Remove data from one place.", (("DELETE", _STORE),)),
    Rule("add_image_location", OWNER, "Add a location.", (("POST", _LOCATIONS),)),
    Rule("fetch_image_location", "role:service or service_roles:service", "List locations.", (("GET", _LOCATIONS),)),
)
ROUTES = (
    Route(
        method="POST", path=_ONE + "/actions/deactivate", handler=deactivate, policy="deactivate", raw=True, success=204
    ),
    Route(
        method="POST", path=_ONE + "/actions/reactivate", handler=reactivate, policy="reactivate", raw=True, success=204
    ),
    Route(method="DELETE", path=_STORE, handler=leave_store, policy="delete_image_location", success=204),
    Route(method="POST", path=_LOCATIONS, handler=add_location, policy="add_image_location", body=NewLocation),
    Route(method="GET", path=_LOCATIONS, handler=list_locations, policy="fetch_image_location"),
)
