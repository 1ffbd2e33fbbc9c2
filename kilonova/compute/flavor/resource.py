"""Flavors over HTTP: list, detail, show for everybody; create, update, delete for operators."""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec
from msgspec import field

from kilonova.base.faults import Fault, Kind, invalid
from kilonova.compute.core import Compute
from kilonova.compute.flavor import store
from kilonova.compute.flavor.store import Filters, Flavor
from kilonova.compute.values import printable, printable_name, truth, whole
from kilonova.db.listing import Page
from kilonova.http.fields import Field, View
from kilonova.http.listing import next_links, page_from
from kilonova.http.request import Answer, Query, Request
from kilonova.http.route import Route
from kilonova.http.schema import since, until
from kilonova.policy.personas import ADMIN
from kilonova.policy.rules import Rule

IS_ADMIN = "context_is_admin"
EXTRA_SPECS_SEEN = "os_compute_api:os-flavor-extra-specs:index"
DESCRIPTION_MAXIMUM = 65535
RXTX_MAXIMUM = 3.40282e38
_ID = re.compile(r"[a-zA-Z0-9._-]([a-zA-Z0-9. _-]*[a-zA-Z0-9._-])?\Z")
_FACTOR = re.compile(r"[0-9]+(\.[0-9]+)?\Z")

Number = int | str


class CreateFlavor(msgspec.Struct, forbid_unknown_fields=True):
    """The body's `flavor`."""

    name: str
    ram: Number
    vcpus: Number
    disk: Number
    id: str | int | float | None = None
    ephemeral: Number = field(default=0, name="OS-FLV-EXT-DATA:ephemeral")
    swap: Number = 0
    rxtx_factor: Annotated[float | str, until("2.101")] = 1.0
    is_public: bool | str | int = field(default=True, name="os-flavor-access:is_public")
    description: Annotated[str | None, since("2.55")] = None


class UpdateFlavor(msgspec.Struct, forbid_unknown_fields=True):
    """The body's `flavor`: only the description may change."""

    description: str | None


# ── how a flavor shows


def links(origin: str, flavor_id: str) -> list[dict[str, str]]:
    """Where the flavor is, with the API's version and without."""
    return [
        {"rel": "self", "href": f"{origin}/v2.1/flavors/{flavor_id}"},
        {"rel": "bookmark", "href": f"{origin}/flavors/{flavor_id}"},
    ]


_BRIEF: View[Flavor] = View(
    Field("id", lambda f: f.id),
    Field("name", lambda f: f.name),
    Field("description", lambda f: f.description, since="2.55"),
)
_FULL: View[Flavor] = View(
    Field("id", lambda f: f.id),
    Field("name", lambda f: f.name),
    Field("ram", lambda f: f.memory_mb),
    Field("disk", lambda f: f.root_gb),
    Field("vcpus", lambda f: f.vcpus),
    Field("swap", lambda f: f.swap_mb or "", until="2.74"),
    Field("swap", lambda f: f.swap_mb, since="2.75"),
    Field("OS-FLV-EXT-DATA:ephemeral", lambda f: f.ephemeral_gb),
    Field("OS-FLV-DISABLED:disabled", lambda f: False, until="2.101"),  # nothing can disable one since 2.1
    Field("os-flavor-access:is_public", lambda f: f.is_public),
    Field("rxtx_factor", lambda f: f.rxtx_factor, until="2.101"),
    Field("description", lambda f: f.description, since="2.55"),
)


def _brief(request: Request[Any], flavor: Flavor) -> dict[str, Any]:
    return {**_BRIEF.show(request.version, flavor), "links": links(request.origin, flavor.id)}


def _full(request: Request[Any], flavor: Flavor, *, specs: bool) -> dict[str, Any]:
    shown = {**_FULL.show(request.version, flavor), "links": links(request.origin, flavor.id)}
    if specs:
        shown["extra_specs"] = flavor.extra_specs
    return shown


def _shows_specs(request: Request[Any]) -> bool:
    return request.version >= (2, 61) and request.allows(EXTRA_SPECS_SEEN)


# ── reading


def _page(request: Request[Any]) -> Page:
    query = request.query
    limit, marker = query.get("limit"), query.get("marker")
    if limit == "" or marker == "":
        raise invalid("Invalid input for query parameters limit, marker: they may not be empty.")
    if "sort_key" not in query:
        query = Query(
            [*query.pairs, ("sort_key", "flavorid"), *(() if "sort_dir" in query else (("sort_dir", "asc"),))]
        )
    return page_from(query, sortable=store.COLUMNS, aliases=_ALIASES)


# Older clients may sort by what no flavor differs in; the order is then that of ids.
_ALIASES = {"flavorid": "id", "disabled": "id", "updated_at": "created_at", "vcpu_weight": "id"}


def _filters(request: Request[Any]) -> Filters:
    query, is_public = request.query, True
    asked: bool | None = is_public
    if request.allows(IS_ADMIN) and (text := query.get("is_public")) is not None:
        asked = None if text.lower() == "none" else truth(text, "is_public")
    return Filters(asked, request.caller.project_id, query.integer("minDisk") or 0, query.integer("minRam") or 0)


async def _listed(compute: Compute, request: Request[Any]) -> tuple[list[Flavor], Page]:
    page = _page(request)
    return await compute.db.read(store.listed, _filters(request), page), page


async def index(compute: Compute, request: Request[None]) -> dict[str, Any]:
    """The flavors the project may use; operators may ask for all (`is_public=none`) or only private ones."""
    found, page = await _listed(compute, request)
    shown = {"flavors": [_brief(request, one) for one in found]}
    return shown | next_links(request, "flavors", found, page, lambda one: one.id)


async def detail(compute: Compute, request: Request[None]) -> dict[str, Any]:
    """The same list with everything a flavor has."""
    found, page = await _listed(compute, request)
    specs = _shows_specs(request)
    shown = {"flavors": [_full(request, one, specs=specs) for one in found]}
    return shown | next_links(request, "flavors", found, page, lambda one: one.id)


async def load(compute: Compute, request: Request[Any]) -> Flavor:
    """The flavor in the request's path, when the caller may know of it."""
    admin = request.allows(IS_ADMIN)
    return await compute.db.read(store.get, request.path["flavor_id"], request.caller.project_id, admin=admin)


async def show(compute: Compute, request: Request[None]) -> dict[str, Any]:
    """One flavor. Another project's private flavor is not found."""
    return {"flavor": _full(request, await load(compute, request), specs=_shows_specs(request))}


# ── writing


def _checked_id(given: str | float | None, new_id: str) -> str:
    if given is None or given == "auto":
        return new_id
    id_ = str(given)
    if not 1 <= len(id_) <= 255 or not _ID.match(id_):
        raise invalid(
            f"Invalid input for field/attribute id. Value: {id_[:80]}. It may hold letters, digits, '.', '_', '-' "
            "and inner spaces, up to 255."
        )
    return id_


def _factor(value: float | str) -> float:
    if isinstance(value, str) and not _FACTOR.match(value):
        raise invalid(f"Invalid input for field/attribute rxtx_factor. Value: {value[:40]}. It is not a number.")
    number = float(value)
    if not 0 < number <= RXTX_MAXIMUM:
        raise invalid(f"Invalid input for field/attribute rxtx_factor. Value: {value}. It must be more than 0.")
    return number


def _description(text: str | None) -> str | None:
    if text is not None and len(text) > DESCRIPTION_MAXIMUM:
        raise invalid(f"Invalid input for field/attribute description: longer than {DESCRIPTION_MAXIMUM}.")
    return None if text is None else printable(text, "description")


async def create(compute: Compute, request: Request[CreateFlavor]) -> dict[str, Any]:
    """A new flavor; its id is chosen here when none (or `auto`) is given."""
    request.enforce()
    body = request.body
    flavor = Flavor(
        id=_checked_id(body.id, compute.world.ids.uuid()),
        name=printable_name(body.name, "name"),
        vcpus=whole(body.vcpus, "vcpus", minimum=1),
        memory_mb=whole(body.ram, "ram", minimum=1),
        root_gb=whole(body.disk, "disk"),
        ephemeral_gb=whole(body.ephemeral, "OS-FLV-EXT-DATA:ephemeral"),
        swap_mb=whole(body.swap, "swap"),
        rxtx_factor=_factor(body.rxtx_factor),
        is_public=truth(body.is_public, "os-flavor-access:is_public"),
        description=_description(body.description),
        extra_specs={},
        created_at=compute.world.clock.now(),
    )
    await compute.db.write(store.insert, flavor)
    return {"flavor": _full(request, flavor, specs=_shows_specs(request))}


async def update(compute: Compute, request: Request[UpdateFlavor]) -> dict[str, Any]:
    """The flavor with another description."""
    request.enforce()
    description = _description(request.body.description)
    flavor = await load(compute, request)
    changed = await compute.db.write(store.describe, flavor.id, description)
    return {"flavor": _full(request, changed, specs=_shows_specs(request))}


async def delete(compute: Compute, request: Request[None]) -> Answer:
    """The flavor is gone; servers made with it keep its sizes."""
    request.enforce()
    await compute.db.write(store.delete, request.path["flavor_id"])
    return Answer(None)


def not_public(flavor: Flavor) -> None:
    """NOT_FOUND for a public flavor, which has no list of projects."""
    if flavor.is_public:
        raise Fault(Kind.NOT_FOUND, "Access list not available for public flavors.")


# ── the declaration

_OPEN = "every user may see the flavors that the project may use"
_MANAGE = "os_compute_api:os-flavor-manage"
_ONE = "/flavors/{flavor_id}"
ROUTES: tuple[Route, ...] = (
    Route(method="GET", path="/flavors", handler=index, open_because=_OPEN),
    Route(method="GET", path="/flavors/detail", handler=detail, open_because=_OPEN),
    Route(method="GET", path=_ONE, handler=show, open_because=_OPEN),
    Route(method="POST", path="/flavors", handler=create, policy=f"{_MANAGE}:create", body=CreateFlavor,
          envelope="flavor"),
    Route(method="PUT", path=_ONE, handler=update, policy=f"{_MANAGE}:update", body=UpdateFlavor, envelope="flavor",
          since="2.55"),
    Route(method="DELETE", path=_ONE, handler=delete, policy=f"{_MANAGE}:delete", success=202),
)  # fmt: skip
RULES: tuple[Rule, ...] = (
    Rule(f"{_MANAGE}:create", ADMIN, "Create a flavor", (("POST", "/flavors"),)),
    Rule(f"{_MANAGE}:update", ADMIN, "Update a flavor", (("PUT", _ONE),)),
    Rule(f"{_MANAGE}:delete", ADMIN, "Delete a flavor", (("DELETE", _ONE),)),
)
