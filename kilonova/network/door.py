"""What every network resource does at the API's door: who may see, which rows, which fields, with which links."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlencode

import msgspec
from msgspec import UNSET

from kilonova.base.clock import iso_seconds
from kilonova.base.faults import Fault, invalid, not_found
from kilonova.http.listing import page_from
from kilonova.http.request import Request
from kilonova.network.rows_store import Listing, Standard, Wanted, known_filters, sortable
from kilonova.policy.rules import Rule

T = TypeVar("T")

_PAGING = {"limit", "marker", "page_reverse", "sort_key", "sort_dir", "fields"}
ANYBODY = {"project_id": "-", "tenant_id": "-"}  # a target that belongs to no caller


def absent(noun: str, id_: str) -> Fault:
    """The noun is not there, or this caller may not know that it is: `NetworkNotFound`."""
    return not_found(noun, id_, code=f"{noun.title().replace(' ', '').replace('Ip', 'IP')}NotFound")


def target(project_id: str, **more: Any) -> dict[str, Any]:
    """A policy target: whose the resource is, under both names, and what else its rules look at."""
    return {"project_id": project_id, "tenant_id": project_id, **more}


def own(request: Request[Any]) -> dict[str, Any]:
    """The target of what the caller's own project has."""
    return target(request.caller.project_id)


def see(request: Request[Any], rule: str, wanted: Mapping[str, Any], fault: Fault) -> None:
    """Return when the caller may see it, else say that it is not there."""
    request.enforced = True
    if not request.allows(rule, wanted):
        raise fault


def seen(request: Request[Any], rule: str, found: T | None, of: Callable[[T], Mapping[str, Any]], fault: Fault) -> T:
    """What was found, when the caller may see it; else it is not there. `of` gives its target."""
    if found is None:
        request.enforced = True
        raise fault
    see(request, rule, of(found), fault)
    return found


def guard(request: Request[Any], rule: str, body: msgspec.Struct, guarded: Mapping[str, Any], of: Any) -> None:
    """Enforce `rule`, and `rule:attribute` for each guarded attribute that the body sets to more than its default.

    `guarded` maps a field of the struct to (the attribute's name in rules, its default).
    """
    request.enforce(of, rule)
    for name, (attribute, default) in guarded.items():
        value = getattr(body, name)
        if value is not UNSET and (default is UNSET or value != default):
            request.enforce(of, f"{rule}:{attribute}")


def project_of(request: Request[Any], body: Any) -> str:
    """The project that the new resource is for: the body's project_id or tenant_id, else the caller's."""
    named = [value for value in (body.project_id, body.tenant_id) if value]
    if len(set(named)) > 1:
        raise invalid("'project_id' and 'tenant_id' must match", code="HTTPBadRequest")
    return named[0] if named else request.caller.project_id


def given(body: msgspec.Struct, *names: str) -> dict[str, Any]:
    """Those of the body's fields that were sent."""
    return {name: value for name in names if (value := getattr(body, name)) is not UNSET}


def singles(body: Any, one: str, many: str) -> tuple[list[Any], bool]:
    """The resources of a POST and whether it was a bulk: {"network": …} or {"networks": [...]}."""
    single, several = getattr(body, one), getattr(body, many)
    if (single is UNSET) == (several is UNSET):
        raise invalid(f"The body must hold either {one!r} or {many!r}.", code="HTTPBadRequest")
    if several is not UNSET:
        if not several:
            raise invalid("Resources required", code="HTTPBadRequest")
        return several, True
    return [single], False


def wanted_from(request: Request[Any], listing: Listing[Any], rule: str) -> Wanted:
    """What a list asks for. Unknown filters are refused (extension filter-validation)."""
    request.enforce(own(request), rule)
    filters: dict[str, list[str]] = {}
    for key, value in request.query.pairs:
        if key not in _PAGING:
            filters.setdefault("project_id" if key == "tenant_id" else key, []).append(value)
    if unknown := sorted(set(filters) - known_filters(listing)):
        raise invalid(f"{unknown} is invalid attribute for filtering", code="HTTPBadRequest")
    keys = sortable(listing)
    page = page_from(
        request.query, sortable=keys, default=(("id", "asc"),), maximum=None, aliases={"tenant_id": "project_id"}
    )
    if page.limit == 0:
        page = msgspec.structs.replace(page, limit=None)
    everybody = request.allows(rule, ANYBODY)
    return Wanted(
        tuple((name, tuple(values)) for name, values in filters.items()),
        page,
        None if everybody else request.caller.project_id,
    )


def answer_list(request: Request[Any], plural: str, shown: list[dict[str, Any]], wanted: Wanted) -> dict[str, Any]:
    """{"networks": […]}, with links to the next and previous page when there may be one."""
    answer: dict[str, Any] = {plural: [chosen(request, item) for item in shown]}
    page = wanted.page
    links = []
    if page.limit and shown:
        forward = len(shown) >= page.limit or page.reverse
        backward = page.marker is not None and (len(shown) >= page.limit or not page.reverse)
        if forward:
            links.append(_link(request, "next", shown[-1]["id"]))
        if backward:
            links.append(_link(request, "previous", shown[0]["id"]))
    if links:
        answer[f"{plural}_links"] = links
    return answer


def _link(request: Request[Any], rel: str, marker: str) -> dict[str, str]:
    kept = [(key, value) for key, value in request.query.pairs if key not in ("marker", "page_reverse")]
    kept.append(("marker", marker))
    if rel == "previous":
        kept.append(("page_reverse", "True"))
    return {"rel": rel, "href": f"{request.origin}{request.url_path}?{urlencode(kept)}"}


def chosen(request: Request[Any], shown: dict[str, Any]) -> dict[str, Any]:
    """The answer with only the `fields` that were asked for."""
    fields = request.query.all("fields")
    return {key: shown[key] for key in fields if key in shown} if fields else shown


def standard(row: Standard) -> dict[str, Any]:
    """The attributes that every noun shows."""
    return {
        "id": row.id,
        "name": row.name,
        "description": row.description,
        "project_id": row.project_id,
        "tenant_id": row.project_id,
        "revision_number": row.revision,
        "created_at": iso_seconds(row.created_at),
        "updated_at": iso_seconds(row.updated_at),
        "tags": row.tags,
    }


def rules(checks: Mapping[str, str], *, about: str) -> tuple[Rule, ...]:
    """Policy rules from name → check string; `about` is the noun they guard."""
    return tuple(
        Rule(name, check, f"{name.split(':')[0].replace('_', ' ')} ({about})") for name, check in checks.items()
    )


def each(prefixes: Iterable[str], attributes: Mapping[str, str]) -> dict[str, str]:
    """`create_network:shared`, `update_network:shared`, … for the product of both."""
    return {f"{prefix}:{name}": check for prefix in prefixes for name, check in attributes.items()}
