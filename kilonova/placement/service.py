"""Placement, the one book of capacity: its routes, its rules, its app."""

from __future__ import annotations

from typing import Any, Final

from kilonova.http.app import App
from kilonova.http.contract import Authenticator, Enforcer
from kilonova.http.faults import PLACEMENT
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.http.versions import Versioning, written
from kilonova.placement.aggregate import resource as aggregate
from kilonova.placement.allocation import resource as allocation
from kilonova.placement.candidate import resource as candidate
from kilonova.placement.change import resource as change
from kilonova.placement.core import PlacementService
from kilonova.placement.door import PlacementDoor
from kilonova.placement.inventory import resource as inventory
from kilonova.placement.provider import resource as provider
from kilonova.placement.reshaper import resource as reshaper
from kilonova.placement.resource_class import resource as resource_class
from kilonova.placement.trait import resource as trait
from kilonova.placement.usage import resource as usage
from kilonova.placement.words import dated
from kilonova.policy.personas import placement_base_rules
from kilonova.policy.rules import Rule

__all__ = ["MIGRATIONS", "ROUTES", "RULES", "PlacementService", "placement_app"]

MIGRATIONS: Final = "kilonova.placement.migrations"
VERSIONING: Final = Versioning("placement", (1, 0), (1, 39), (1, 0))


async def versions(service: PlacementService, request: Request[Any]) -> Answer:
    """The one major version, and which microversions it speaks."""
    body = {
        "versions": [
            {
                "id": "v1.0",
                "min_version": written(VERSIONING.minimum),
                "max_version": written(VERSIONING.maximum),
                "status": "CURRENT",
                "links": [{"rel": "self", "href": request.origin}],
            }
        ]
    }
    return dated(request, body, service.now())


_NOUNS = (provider, inventory, trait, aggregate, resource_class, allocation, usage, candidate, reshaper, change)
ROUTES: tuple[Route, ...] = (
    Route(method="GET", path="/", handler=versions, open_because="version discovery", needs_token=False),
    *(route for noun in _NOUNS for route in noun.ROUTES),
)
RULES: tuple[Rule, ...] = (*placement_base_rules, *(rule for noun in _NOUNS for rule in noun.RULES))


def placement_app(service: PlacementService, authenticator: Authenticator, enforcer: Enforcer) -> App:
    """Placement's API."""
    return PlacementDoor(
        service.world,
        service,
        ROUTES,
        participant="placement",
        style=PLACEMENT,
        versioning=VERSIONING,
        authenticator=authenticator,
        enforcer=enforcer,
    )
