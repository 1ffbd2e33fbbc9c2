"""What the image service's handlers and imports get: the database, the stores, and whom they may ask."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from kilonova.base.faults import invalid, unavailable
from kilonova.base.world import World
from kilonova.bus import rpc
from kilonova.bus.contract import Bus, Target
from kilonova.db.database import Database
from kilonova.http.request import Request
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
from kilonova.image.image import trust, upload_store
from kilonova.image.image.look import Look
from kilonova.image.image.signature import Verifier, is_signed
from kilonova.image.image.store import Image
from kilonova.image.settings import ImageSettings
from kilonova.image.stores import Store, Stores
from kilonova.saga.seal import Sealer

T = TypeVar("T")


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
        self.look = Look(self.stores, self.settings)

    async def recover(self) -> int:
        """After a start of the only API process: uploads that were cut off may be tried again."""
        return await self.db.write(upload_store.reset_interrupted_uploads, self.world.clock.now())

    def workers(self) -> Workers:
        """Who runs imports."""
        return _offered(self.parts.workers, "This image service has no workers.")

    def web(self) -> WebSource:
        """Data from the web."""
        return _offered(self.parts.web, "This image service does not reach the web.")

    def inspector(self) -> DiskInspector:
        """Who reads the headers of disks."""
        return _offered(self.parts.inspector, "This image service cannot inspect data.")

    def converter(self) -> DiskConverter:
        """Who converts disks."""
        return _offered(self.parts.converter, "This image service cannot convert disks.")

    def regions(self) -> OtherClouds:
        """Where other regions' images are."""
        return _offered(self.parts.regions, "This image service knows no other regions.")

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


def _offered(part: T | None, absent: str) -> T:
    if part is None:
        raise unavailable(absent)
    return part
