"""What placement offers beyond the field's API: to those who decide on a mirror, its changes, and claims by the batch;
to those who keep a provider up to date, all that is said of it at once.

`GET /changes?since=POSITION`, `POST /claims`, `GET /books/{uuid}`. Clients of the field's API need neither.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from sqlalchemy import Connection

from kilonova.base.faults import invalid
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.placement.allocation import batch
from kilonova.placement.allocation.resource import Owner, Resources
from kilonova.placement.contract import Changes, Claimed, ClaimRequest, ClaimResult, HeldBooks
from kilonova.placement.core import PlacementService
from kilonova.placement.inventory import store as inventory_store
from kilonova.placement.trait import store as trait_store
from kilonova.placement.words import ClassName, once, only, rule, uuid_of

MOST_AT_ONCE = 1000


class One(msgspec.Struct, forbid_unknown_fields=True):
    """A claim of a batch."""

    consumer_id: str
    project_id: Owner
    user_id: Owner
    allocations: dict[str, Resources]
    consumer_type: ClassName = "INSTANCE"
    consumer_generation: int | msgspec.UnsetType | None = msgspec.UNSET


class Batch(msgspec.Struct, forbid_unknown_fields=True):
    """POST /claims."""

    claims: Annotated[list[One], msgspec.Meta(min_length=1, max_length=MOST_AT_ONCE)]
    since: str = (
        ""  # a position; given: what changed after it is answered too, and nothing is claimed when something did
    )
    even_if_changed: bool = False


class Results(msgspec.Struct):
    """The answer to it, in the order of the claims."""

    results: list[ClaimResult]


async def index(service: PlacementService, request: Request[Any]) -> Changes:
    """What happened to the books after `since`; everything without it."""
    request.enforce()
    only(request, "since")
    return await service.changes(once(request, "since") or "")


async def claim(service: PlacementService, request: Request[Batch]) -> Results | Claimed:
    """Each claim stands or fails alone; the answer says why, and what changed when it was asked `since` when."""
    request.enforce()
    claims = [
        ClaimRequest(
            uuid_of(one.consumer_id, "consumer_id"),
            one.project_id,
            one.user_id,
            {uuid_of(id_, "allocations"): amounts for id_, amounts in one.allocations.items()},
            one.consumer_type,
            one.consumer_generation,
        )
        for one in request.body.claims
    ]
    if len({one.consumer_id for one in claims}) < len(claims):
        raise invalid("Invalid input for field claims: each consumer may claim once.")
    if request.body.since:
        known, even = request.body.since, request.body.even_if_changed
        return await service.db.write(batch.claim_as_known, known, claims, service.now(), even_if_changed=even)
    return Results(await service.db.write(batch.claim_many, claims, service.now()))


async def books(service: PlacementService, request: Request[Any]) -> HeldBooks:
    """What is said of one provider, at one moment."""
    request.enforce()
    only(request)
    return await service.db.read(_books, uuid_of(request.path["uuid"], "uuid"))


def _books(connection: Connection, provider_id: str) -> HeldBooks:
    found, inventories = inventory_store.of_provider(connection, provider_id)
    return HeldBooks(found.name, found.generation, inventories, trait_store.held(connection, provider_id))


_LIST, _CLAIM, _BOOKS = "/changes", "/claims", "/books/{uuid}"
ROUTES = (
    Route(method="GET", path=_LIST, handler=index, policy="placement:changes:list", summary="Follow the books"),
    Route(method="POST", path=_CLAIM, handler=claim, policy="placement:claims:create", body=Batch, summary="Claim"),
    Route(method="GET", path=_BOOKS, handler=books, policy="placement:books:show", summary="All said of a provider"),
)
RULES = (
    rule("changes:list", "GET", _LIST),
    rule("claims:create", "POST", _CLAIM),
    rule("books:show", "GET", _BOOKS),
)
