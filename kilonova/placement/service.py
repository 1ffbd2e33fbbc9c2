"""Placement: the one book of capacity. Wires routes, rules and the database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from kilonova.base.world import World
from kilonova.db.database import Database
from kilonova.http.app import App
from kilonova.http.contract import Authenticator, Enforcer
from kilonova.http.faults import PLACEMENT
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.http.versions import Versioning, written
from kilonova.placement.aggregate import resource as aggregate
from kilonova.placement.allocation import resource as allocation
from kilonova.placement.candidate import resource as candidate
from kilonova.placement.inventory import resource as inventory
from kilonova.placement.provider import resource as provider
from kilonova.placement.resource_class import resource as resource_class
from kilonova.placement.trait import resource as trait
from kilonova.placement.usage import resource as usage
from kilonova.policy.personas import placement_base_rules
from kilonova.policy.rules import Rule

MIGRATIONS: Final = "kilonova.placement.migrations"
VERSIONING: Final = Versioning("placement", (1, 0), (1, 39), (1, 0))


@dataclass
class PlacementService:
    """What handlers get."""

    world: World
    db: Database

    def now(self) -> datetime:
        """Wall-clock time, UTC."""
        return self.world.clock.now()


async def versions(service: PlacementService, request: Request[Any]) -> dict[str, Any]:
    """The one major version, and which microversions it speaks."""
    return {
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


_NOUNS = (provider, inventory, trait, aggregate, resource_class, allocation, usage, candidate)
ROUTES: tuple[Route, ...] = (
    Route(method="GET", path="/", handler=versions, open_because="version discovery", needs_token=False),
    *(route for noun in _NOUNS for route in noun.ROUTES),
)
RULES: tuple[Rule, ...] = (*placement_base_rules, *(rule for noun in _NOUNS for rule in noun.RULES))


def placement_app(service: PlacementService, authenticator: Authenticator, enforcer: Enforcer) -> App:
    """Placement's API."""
    return App(
        service.world,
        service,
        ROUTES,
        participant="placement",
        style=PLACEMENT,
        versioning=VERSIONING,
        authenticator=authenticator,
        enforcer=enforcer,
    )
