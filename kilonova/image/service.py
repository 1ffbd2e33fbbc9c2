"""The image service's API: its routes and rules, its app."""

from __future__ import annotations

from typing import Any

from kilonova.http.app import App
from kilonova.http.contract import Authenticator, Enforcer
from kilonova.http.faults import IMAGE
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.image import documents, info
from kilonova.image.cache import resource as cache
from kilonova.image.core import ImageParts, ImageService, Workers
from kilonova.image.image import actions, data, members, resource
from kilonova.image.importing import resource as importing
from kilonova.image.metadef import items, namespace
from kilonova.image.settings import ImageSettings
from kilonova.image.task import resource as tasks
from kilonova.policy.personas import image_base_rules

__all__ = ["MIGRATIONS", "ROUTES", "RULES", "ImageParts", "ImageService", "ImageSettings", "Workers", "image_app"]

MIGRATIONS = "kilonova.image.migrations"
VERSION = "2.18"
OLDER = (17, 16, 15, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)


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
