"""The image service: what its handlers get, its routes and rules, its API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

from kilonova.base.faults import invalid, unavailable
from kilonova.base.world import World
from kilonova.bus import rpc
from kilonova.bus.contract import Bus, Target
from kilonova.db.database import Database
from kilonova.http.app import App
from kilonova.http.contract import Authenticator, Enforcer
from kilonova.http.faults import IMAGE
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.image import documents, info
from kilonova.image.cache import resource as cache
from kilonova.image.cache.copies import Copies
from kilonova.image.contract import (
    EXCHANGE,
    NOT_ASKED,
    WORKER_TOPIC,
    Certificates,
    DiskConverter,
    DiskInspector,
    ImageLimits,
    ImageStore,
    ImageWorker,
    OtherClouds,
    WebSource,
)
from kilonova.image.image import actions, data, members, resource, trust, upload_store
from kilonova.image.image.signature import Verifier, is_signed
from kilonova.image.image.store import Image
from kilonova.image.importing import resource as importing
from kilonova.image.metadef import items, namespace
from kilonova.image.settings import ImageSettings
from kilonova.image.stores import Store, Stores
from kilonova.image.task import resource as tasks
from kilonova.policy.personas import image_base_rules
from kilonova.saga.seal import Sealer

__all__ = ["MIGRATIONS", "RULES", "ImageParts", "ImageService", "ImageSettings", "Workers", "image_app"]

MIGRATIONS = "kilonova.image.migrations"
IMAGES_REMEMBERED = 2000  # how they look, 2 KiB each
VERSION = "2.18"
OLDER = (17, 16, 15, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)


@dataclass(frozen=True)
class Workers:
    """How imports get to a worker."""

    bus: Bus
    sealer: Sealer

    async def run(self, operation_id: str) -> None:
        """A worker is told that an operation waits."""
        await rpc.client(ImageWorker, self.bus, Target(EXCHANGE, WORKER_TOPIC)).run_operation(operation_id)


@dataclass(frozen=True)
class ImageParts:
    """What an image service leans on beside its database and its default store; what is absent is not offered."""

    stores: tuple[Store, ...] = ()
    workers: Workers | None = None
    web: WebSource | None = None
    inspector: DiskInspector | None = None
    converter: DiskConverter | None = None
    limits: ImageLimits | None = None
    regions: OtherClouds | None = None
    certificates: Certificates | None = None
    copies: Copies | None = None


@dataclass
class ImageService:
    """Given to every handler and every import."""

    world: World
    db: Database
    data: ImageStore
    settings: ImageSettings
    parts: ImageParts = field(default_factory=ImageParts)

    def __post_init__(self) -> None:
        self.stores = Stores(self.parts.stores or (Store("files", "file", self.data, default=True),))
        own = self.settings
        self.tells_locations = self.stores.several or own.show_multiple_locations or own.show_image_direct_url
        self.drawn = lru_cache(IMAGES_REMEMBERED)(partial(resource.drawn, self))

    async def recover(self) -> int:
        """After a start of the only API process: uploads that were cut off may be tried again."""
        return await self.db.write(upload_store.reset_interrupted_uploads, self.world.clock.now())

    def workers(self) -> Workers:
        """Who runs imports."""
        if self.parts.workers is None:
            raise unavailable("This image service has no workers.")
        return self.parts.workers

    def web(self) -> WebSource:
        """Data from the web."""
        if self.parts.web is None:
            raise unavailable("This image service does not reach the web.")
        return self.parts.web

    def inspector(self) -> DiskInspector:
        """Who reads the headers of disks."""
        if self.parts.inspector is None:
            raise unavailable("This image service cannot inspect data.")
        return self.parts.inspector

    def converter(self) -> DiskConverter:
        """Who converts disks."""
        if self.parts.converter is None:
            raise unavailable("This image service cannot convert disks.")
        return self.parts.converter

    def regions(self) -> OtherClouds:
        """Where other regions' images are."""
        if self.parts.regions is None:
            raise unavailable("This image service knows no other regions.")
        return self.parts.regions

    async def verifier(self, image: Image, token: str) -> Verifier | None:
        """Verifies the data of a signed image; None for one that is not. INVALID when it cannot be verified."""
        if not is_signed(image.properties):
            return None
        if self.parts.certificates is None:
            raise invalid(
                "The image's signature cannot be verified: this cloud has no key manager that keeps its certificate.",
                hint="Remove the img_signature properties, or ask the operator for a key manager.",
            )
        return await trust.verifier(self.parts.certificates, token, image.properties, NOT_ASKED, self.world.clock.now())

    def injected(self, request: Request[Any]) -> dict[str, str]:
        """Properties that the operator puts on what this caller imports."""
        ignored = set(self.settings.inject_ignore_roles)
        return {} if ignored & set(request.caller.roles) else dict(self.settings.inject_properties)

    async def limits_of(self, request: Request[Any], project_id: str | None) -> dict[str, int]:
        """The project's limits, as the caller may know them; none where nobody keeps any."""
        if self.parts.limits is None:
            return {}
        return await self.parts.limits.of(request.caller.token, project_id or "")

    async def copy_here(self, image: Image, start: int, end: int) -> AsyncIterator[bytes] | None:
        """The image's bytes from this process's own copy, if it keeps one."""
        return None if self.parts.copies is None else await self.parts.copies.read(image, start, end)

    async def uncache(self, image_id: str) -> None:
        """No copy of the image is kept in this process."""
        if self.parts.copies is not None:
            await self.parts.copies.drop(image_id)


async def versions(service: ImageService, request: Request[Any]) -> Answer:
    """Discovery, as Glance shows it: 300 at the root."""
    link = [{"rel": "self", "href": f"{request.origin}/v2/"}]
    shown = [{"id": f"v{VERSION}", "status": "CURRENT", "links": link}]
    shown += [{"id": f"v2.{minor}", "status": "SUPPORTED", "links": link} for minor in OLDER]
    return Answer({"versions": shown}, 300 if request.url_path in ("", "/") else 200)


_OPEN = "discovery is for everyone"
_NOUNS = (resource, data, members, actions, importing, tasks, info, cache, namespace, items)
ROUTES: tuple[Route, ...] = (
    Route(method="GET", path="/", handler=versions, open_because=_OPEN, needs_token=False),
    Route(method="GET", path="/versions", handler=versions, open_because=_OPEN, needs_token=False),
    Route(method="GET", path="/v2", handler=versions, open_because=_OPEN, needs_token=False),
    *documents.ROUTES,
    *(route for noun in _NOUNS for route in noun.ROUTES),
)
RULES = (*image_base_rules, *(rule for noun in _NOUNS for rule in noun.RULES))


def image_app(service: ImageService, authenticator: Authenticator, enforcer: Enforcer) -> App:
    """The image API as an ASGI application."""
    app = App(
        service.world,
        service,
        ROUTES,
        participant="glance",
        style=IMAGE,
        authenticator=authenticator,
        enforcer=enforcer,
    )
    app.exact = True
    return app
