"""Allocation candidates over REST: requests that a client may put to /allocations as they are."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.placement.candidate.query import asked_from
from kilonova.placement.candidate.wanted import Asked
from kilonova.placement.core import PlacementService
from kilonova.placement.resource_class import store as classes
from kilonova.placement.trait import store as traits
from kilonova.placement.words import STANDARD_CLASSES, STANDARD_TRAITS, dated, rule


async def index(service: PlacementService, request: Request[Any]) -> Answer:
    """Candidates, and the books of the providers in their trees."""
    from kilonova.placement.candidate.answer import answered
    from kilonova.placement.candidate.search import search

    request.enforce()
    asked = asked_from(request)
    if not STANDARD_TRAITS.issuperset(asked.traits) or not asked.resources.issubset(STANDARD_CLASSES):
        await service.db.read(_refuse_unknown, asked)
    mirror = await service.mirror()
    body = answered(request.version, mirror, asked, search(mirror, asked))
    return dated(request, body, service.now())


def _refuse_unknown(connection: Connection, asked: Asked) -> None:
    classes.refuse_unknown(connection, asked.resources, "Invalid resource class in resources parameter")
    traits.refuse_unknown(connection, asked.traits)


ROUTES = (
    Route(
        method="GET",
        path="/allocation_candidates",
        handler=index,
        policy="placement:allocation_candidates:list",
        since="1.10",
        summary="List ways to serve a request",
    ),
)
RULES = (rule("allocation_candidates:list", "GET", "/allocation_candidates"),)
