"""Allocation candidates over REST: requests that a client may put to /allocations as they are.

A candidate is one provider that alone has room for everything asked. Numbered or named request groups, which spread
a request over a tree, are refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kilonova.base.faults import invalid
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.http.versions import Version, within
from kilonova.placement.candidate import store
from kilonova.placement.candidate.wanted import Wanted, wanted_from
from kilonova.placement.resource_class.store import refuse_unknown as refuse_unknown_classes
from kilonova.placement.trait.store import refuse_unknown as refuse_unknown_traits
from kilonova.placement.words import BAD_QUERY_VALUE, MISSING_QUERY_VALUE, dated, only, rule

if TYPE_CHECKING:
    from kilonova.placement.service import PlacementService

_FILTERS = (("resources", ""), ("limit", "1.16"), ("required", "1.17"), ("member_of", "1.21"), ("in_tree", "1.31"))
_GROUPED = ("resources", "required", "member_of", "in_tree", "group_policy", "same_subtree", "root_required")


async def index(service: PlacementService, request: Request[Any]) -> Answer:
    """Candidates, and the books of the providers in their trees."""
    request.enforce()
    _refuse_groups(request)
    only(request, *(name for name, first in _FILTERS if within(request.version, first, "")))
    wanted = wanted_from(request)
    if not wanted.resources:
        raise invalid("All request groups must specify resources.", code=MISSING_QUERY_VALUE)
    limit = request.query.integer("limit", minimum=1)
    await service.db.read(refuse_unknown_classes, wanted.resources, "Invalid resource class in resources parameter")
    await service.db.read(refuse_unknown_traits, wanted.traits)
    found = await service.db.read(store.search, wanted, limit)
    trees, fits = request.version >= (1, 29), set(found.fits)
    body = {
        "allocation_requests": [_request(request.version, wanted, id_) for id_ in found.fits],
        "provider_summaries": {
            id_: _summary(request.version, wanted, summary)
            for id_, summary in found.summaries.items()
            if trees or id_ in fits
        },
    }
    return dated(request, body, service.now())


def _refuse_groups(request: Request[Any]) -> None:
    """400 for what spreads a request over several providers: later releases may."""
    known = {name for name, _ in _FILTERS}
    for name in request.query.keys() - known:
        if name.startswith(_GROUPED):
            raise invalid(
                f"The query parameter {name[:60]!r} is not served: requests are for one provider each.",
                hint="Ask for all resources in one unnamed group: resources=VCPU:1,MEMORY_MB:512.",
                code=BAD_QUERY_VALUE,
            )


def _request(version: Version, wanted: Wanted, id_: str) -> dict[str, Any]:
    if version < (1, 12):
        return {"allocations": [{"resource_provider": {"uuid": id_}, "resources": wanted.resources}]}
    made: dict[str, Any] = {"allocations": {id_: {"resources": wanted.resources}}}
    if version >= (1, 34):
        made["mappings"] = {"": [id_]}
    return made


def _summary(version: Version, wanted: Wanted, summary: store.Summary) -> Any:
    if version >= (1, 29):
        return summary
    whole = version >= (1, 27)
    books = {name: book for name, book in summary.resources.items() if whole or name in wanted.resources}
    return {"resources": books, "traits": summary.traits} if version >= (1, 17) else {"resources": books}


ROUTES = (
    Route(
        method="GET",
        path="/allocation_candidates",
        handler=index,
        policy="placement:allocation_candidates:list",
        since="1.10",
        summary="List providers that have room",
    ),
)
RULES = (rule("allocation_candidates:list", "GET", "/allocation_candidates"),)
