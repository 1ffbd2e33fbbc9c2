"""Lists over HTTP: limit, marker, sort keys and directions in, page links out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, cast
from urllib.parse import urlencode

from kilonova.base.faults import invalid
from kilonova.db.listing import Direction, Page
from kilonova.http.request import Query, Request

Sorts = tuple[tuple[str, Direction], ...]


def page_from(
    query: Query,
    *,
    sortable: Collection[str],
    default: Sorts = (("created_at", "desc"), ("id", "desc")),
    maximum: int | None = 1000,
    aliases: dict[str, str] | None = None,
) -> Page:
    """The page a query asks for. Understands sort_key/sort_dir (repeated) and sort=key:dir,key2.

    `aliases` maps the API's names to store keys. Unknown keys and directions are INVALID and list what is known.
    """
    limit = query.integer("limit")
    if maximum is not None:
        limit = maximum if limit is None else min(limit, maximum)
    sorts = _sorts(query, sortable, aliases or {})
    reverse = bool(query.boolean("page_reverse")) if "page_reverse" in query else False
    return Page(limit, query.get("marker") or None, sorts or default, reverse)


def _sorts(query: Query, sortable: Collection[str], aliases: dict[str, str]) -> Sorts:
    keys, ways = query.all("sort_key"), query.all("sort_dir")
    if text := query.get("sort"):
        pairs = [part.partition(":") for part in text.split(",") if part]
        keys, ways = [key for key, _, _ in pairs], [way or "desc" for _, _, way in pairs]
    made = []
    for index, key in enumerate(keys):
        way = ways[index] if index < len(ways) else (ways[-1] if ways else "desc")
        if way not in ("asc", "desc"):
            raise invalid(f"Invalid sort direction {way[:20]!r}.", hint="Use asc or desc.")
        known = aliases.get(key, key)
        if known not in sortable:
            raise invalid(f"Invalid sort key {key[:60]!r}.", hint=f"Known: {', '.join(sorted(sortable))}.")
        made.append((known, cast(Direction, way)))
    return tuple(made)


def next_links(
    request: Request[Any], collection: str, shown: Sequence[Any], page: Page, id_of: Callable[[Any], str]
) -> dict[str, Any]:
    """{"<collection>_links": [{"rel": "next", "href": …}]} when the page is full, else {}."""
    if not page.limit or len(shown) < page.limit:
        return {}
    kept = [(key, value) for key, value in request.query.pairs if key != "marker"]
    href = f"{request.origin}{request.url_path}?{urlencode([*kept, ('marker', id_of(shown[-1]))])}"
    return {f"{collection}_links": [{"rel": "next", "href": href}]}
