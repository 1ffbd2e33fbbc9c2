"""The image service: what its handlers get, its routes and rules, its API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kilonova.base.world import World
from kilonova.db.database import Database
from kilonova.http.app import App
from kilonova.http.contract import Authenticator, Enforcer
from kilonova.http.faults import IMAGE
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.image import documents
from kilonova.image.contract import ImageStore
from kilonova.image.image import data, members, resource, store
from kilonova.image.metadef import items, namespace
from kilonova.policy.personas import image_base_rules

MIGRATIONS = "kilonova.image.migrations"
VERSION = "2.18"


@dataclass(frozen=True)
class ImageSettings:
    """The operator's choices."""

    image_size_cap_bytes: int = 1 << 40


@dataclass
class ImageService:
    """Given to every handler."""

    world: World
    db: Database
    data: ImageStore
    settings: ImageSettings

    async def recover(self) -> int:
        """After a start of the only API process: uploads that were cut off may be tried again."""
        return await self.db.write(store.reset_interrupted_uploads, self.world.clock.now())


async def versions(service: ImageService, request: Request[Any]) -> Answer:
    """Discovery, as Glance shows it: 300 at the root."""
    link = [{"rel": "self", "href": f"{request.origin}/v2/"}]
    shown = [{"id": f"v{VERSION}", "status": "CURRENT", "links": link}]
    shown += [{"id": f"v2.{minor}", "status": "SUPPORTED", "links": link} for minor in (17, 16, 15, 13, 9, 7, 6, 5)]
    return Answer({"versions": shown}, 300 if request.url_path in ("", "/") else 200)


_OPEN = "discovery is for everyone"
ROUTES: tuple[Route, ...] = (
    Route(method="GET", path="/", handler=versions, open_because=_OPEN, needs_token=False),
    Route(method="GET", path="/versions", handler=versions, open_because=_OPEN, needs_token=False),
    Route(method="GET", path="/v2", handler=versions, open_because=_OPEN, needs_token=False),
    *resource.ROUTES,
    *data.ROUTES,
    *members.ROUTES,
    *documents.ROUTES,
    *namespace.ROUTES,
    *items.ROUTES,
)
RULES = (*image_base_rules, *resource.RULES, *data.RULES, *members.RULES, *namespace.RULES, *items.RULES)


def image_app(service: ImageService, authenticator: Authenticator, enforcer: Enforcer) -> App:
    """The image API as an ASGI application."""
    return App(
        service.world,
        service,
        ROUTES,
        participant="glance",
        style=IMAGE,
        authenticator=authenticator,
        enforcer=enforcer,
    )
