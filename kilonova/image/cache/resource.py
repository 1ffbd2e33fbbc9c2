"""The cache API: which images this API process keeps copies of."""

from __future__ import annotations

from typing import Any

from kilonova.base.faults import Fault, Kind, invalid, not_found
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.image.cache.copies import Copies
from kilonova.image.core import ImageService
from kilonova.image.image import store as image_store
from kilonova.image.image.data import read
from kilonova.policy.rules import Rule

TARGETS = {"": ("queued", "cached"), "cache": ("cached",), "queue": ("queued",)}


def _copies(service: ImageService) -> Copies:
    if service.parts.copies is None:
        raise Fault(
            Kind.NOT_FOUND, "Caching via API is not supported at this site.", hint="Set cache_bytes of [image]."
        )
    return service.parts.copies


async def list_(service: ImageService, request: Request[Any]) -> dict[str, Any]:
    request.enforce()
    found = await _copies(service).listed()
    return {
        "cached_images": [
            {
                "image_id": copy.image_id,
                "hits": copy.hits,
                "last_accessed": copy.accessed_at.timestamp(),
                "last_modified": copy.modified_at.timestamp(),
                "size": copy.size,
            }
            for copy in found
            if copy.state == "cached"
        ],
        "queued_images": [copy.image_id for copy in found if copy.state == "queued"],
    }


async def queue(service: ImageService, request: Request[Any]) -> Answer:
    """A copy is made in the background."""
    request.enforce()
    copies = _copies(service)
    image = await service.db.read(image_store.get_image, request.path["image_id"])
    if image.status != "active":
        raise invalid(f"Only images with status active can be targeted for queueing; this one is {image.status}.")
    await copies.queue(image.id)
    service.world.spawn(fill_queued(service), "image copies")
    return Answer(None, 202)


async def fill_queued(service: ImageService) -> int:
    """Which copies are wanted and not there yet? They are made, one after the other; how many there were."""
    copies = service.parts.copies
    if copies is None:
        return 0
    waiting = [copy.image_id for copy in await copies.listed() if copy.state == "queued"]
    for image_id in waiting:
        try:
            image = await service.db.read(image_store.get_image, image_id)
        except Fault:
            await copies.drop(image_id)
            continue
        await copies.fill(image, read(service, image, 0, image.size or 0))
    return len(waiting)


async def drop(service: ImageService, request: Request[Any]) -> None:
    request.enforce()
    copies = _copies(service)
    if not await copies.drop(request.path["image_id"]):
        raise not_found("Copy of image", request.path["image_id"])


async def clear(service: ImageService, request: Request[Any]) -> None:
    """`x-image-cache-clear-target: cache` or `queue`; both without."""
    request.enforce()
    wanted = request.headers.get("x-image-cache-clear-target", "").lower()
    if wanted not in TARGETS:
        raise invalid("If provided, 'x-image-cache-clear-target' must be 'cache' or 'queue'.")
    await _copies(service).clear(TARGETS[wanted])


_ALL, _ONE = "/v2/cache", "/v2/cache/{image_id}"
_ADMIN = "rule:context_is_admin"
RULES = (
    Rule("cache_list", _ADMIN, "List copies.", (("GET", _ALL),)),
    Rule("cache_image", _ADMIN, "Ask for a copy.", (("PUT", _ONE),)),
    Rule("cache_delete", _ADMIN, "Drop copies.", (("DELETE", _ALL), ("DELETE", _ONE))),
)
ROUTES = (
    Route(method="GET", path=_ALL, handler=list_, policy="cache_list"),
    Route(method="PUT", path=_ONE, handler=queue, policy="cache_image", raw=True),
    Route(method="DELETE", path=_ONE, handler=drop, policy="cache_delete", success=204),
    Route(method="DELETE", path=_ALL, handler=clear, policy="cache_delete", success=204),
)
