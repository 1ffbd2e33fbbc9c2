"""POST /os-aggregates/{id}/images: images come into the caches of its hosts, so that servers of them boot at once."""

from __future__ import annotations

import logging
from typing import Annotated

import msgspec

from kilonova.base.faults import invalid
from kilonova.base.ids import is_uuid
from kilonova.compute.aggregate import store
from kilonova.compute.aggregate.resource import aggregate_id
from kilonova.compute.core import Compute
from kilonova.compute.host.services import known
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.policy.personas import ADMIN
from kilonova.policy.rules import Rule

log = logging.getLogger(__name__)


class CachedImage(msgspec.Struct, forbid_unknown_fields=True):
    """One image."""

    id: str


class CacheImages(msgspec.Struct, forbid_unknown_fields=True):
    """The body: at least one image, none twice."""

    cache: Annotated[list[CachedImage], msgspec.Meta(min_length=1, max_length=1000)]


async def cache_images(compute: Compute, request: Request[CacheImages]) -> Answer:
    """202: every host of the aggregate that is up was told. What a host cannot bring it logs, and goes on."""
    request.enforce()
    wanted = [one.id for one in request.body.cache]
    if wrong := [one for one in wanted if not is_uuid(one)]:
        raise invalid(f"Invalid input for field cache: {wrong[0][:40]!r} is no image id.")
    if len(set(wanted)) != len(wanted):
        raise invalid("Duplicate images in request.")
    aggregate = await compute.db.read(store.get, aggregate_id(request))
    for image_id in wanted:
        await compute.peers.images.show(request.caller.token, image_id)
    up = {one.host.name for one in await known(compute) if one.state == "up"}
    for host in aggregate.hosts:
        if host in up:  # by the time another returns, the token is no longer good
            await compute.agent(host).cache_images(wanted, request.caller.token)
        else:
            log.warning("images are not cached on %s, which is down: %s", host, ", ".join(wanted))
    return Answer(None, 202)


_PATH = "/os-aggregates/{aggregate_id}/images"
_POLICY = "os_compute_api:os-aggregates:images"
ROUTES: tuple[Route, ...] = (
    Route(method="POST", path=_PATH, handler=cache_images, policy=_POLICY, body=CacheImages, success=202, since="2.81"),
)
RULES: tuple[Rule, ...] = (Rule(_POLICY, ADMIN, "Cache images on an aggregate's hosts", (("POST", _PATH),)),)
