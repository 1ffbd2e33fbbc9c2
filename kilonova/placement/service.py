"""Placement: the one book of capacity. Wires routes, rules and the database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from kilonova.base.world import World
from kilonova.db.database import Database
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
from kilonova.placement.change import store as change_store
from kilonova.placement.contract import Changes
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

if TYPE_CHECKING:
    from kilonova.placement.mirror.books import Mirror
    from kilonova.placement.mirror.keeper import Keeper

MIGRATIONS: Final = "kilonova.placement.migrations"
VERSIONING: Final = Versioning("placement", (1, 0), (1, 39), (1, 0))


@dataclass
class PlacementService:
    """What handlers get."""

    world: World
    db: Database
    _keeper: Keeper | None = None

    async def mirror(self) -> Mirror:
        """The books in memory, with all that was committed before this call; ask again after each await."""
        if self._keeper is None:
            from kilonova.placement.mirror.keeper import Keeper  # numpy is loaded when somebody searches

            self._keeper = Keeper(self.changes)
        return await self._keeper.current()

    async def changes(self, since: str) -> Changes:
        """What happened to the books after the position `since`."""
        return await self.db.read(change_store.since, since, self.now())

    def now(self) -> datetime:
        """Wall-clock time, UTC."""
        return self.world.clock.now()


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
