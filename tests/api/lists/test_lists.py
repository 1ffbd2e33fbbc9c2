"""Every list of every service filters, sorts and pages as its reference says: one table, walked over a whole cloud."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from kilonova.block_storage.service import ROUTES as VOLUME
from kilonova.compute.service import ROUTES as COMPUTE
from kilonova.identity.service import ROUTES as IDENTITY
from kilonova.image.service import ROUTES as IMAGE
from kilonova.network.service import ROUTES as NETWORK
from kilonova.placement.service import ROUTES as PLACEMENT
from tests.api.lists.seeded import VERSIONS, Seeded
from tests.api.lists.table import LINKS, LISTS, NEXT, NO_LIST_PATTERNS, NO_LISTS, QUESTIONS, WHOLE, Item, Row
from tests.fake_cloud import fake_cloud

SERVICES = {"compute": COMPUTE, "network": NETWORK, "volume": VOLUME, "image": IMAGE, "identity": IDENTITY,
            "placement": PLACEMENT}  # fmt: skip
PROJECT_PREFIX = re.compile(r"^(/v2\.1)/\{project_id\}|^(/v3)/\{owner_project_id\}")
ROWS = [pytest.param(row, id=f"{row.service}{row.path}") for row in LISTS]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seeded]:
    with fake_cloud(Path(tmp_path_factory.mktemp("lists") / "cloud"), "--hosts", "2") as made:
        seeded = Seeded(made)
        seeded.fill()
        yield seeded


def list_routes() -> set[str]:
    """`service path` of every registered GET route that does not end in one thing's id, and is not discovery."""
    found = set()
    for service, routes in SERVICES.items():
        for route in routes:
            path = PROJECT_PREFIX.sub(lambda match: match[1] or match[2], route.path)
            listing = (
                route.method == "GET"
                and not path.endswith("}")
                and path.count("/") > (service != "placement")
                and path != "/"
            )
            if listing and not any(pattern in path for pattern in NO_LIST_PATTERNS):
                found.add(f"{service} {path}")
    return found


def test_every_list_route_has_a_row() -> None:
    known = {f"{row.service} {row.path}" for row in LISTS} | set(NO_LISTS)
    assert list_routes() - known == set(), "add rows to tests/api/lists/table.py"
    assert known - list_routes() == set(), "rows for routes that are gone"


def field(item: dict[str, Any], name: str) -> Any:
    """A field of an item; dots lead into it."""
    for part in name.split("."):
        item = item[part] if part in item or "." in name else item.get(name)
    return item


def listed(cloud: Seeded, row: Row, **query: Any) -> list[dict[str, Any]]:
    """The items that the list answers."""
    return list(cloud.get(row.service, _path(cloud, row, **query))[row.collection])


def _path(cloud: Seeded, row: Row, **query: Any) -> str:
    return row.path.format(**cloud.ids) + (f"?{urlencode(query)}" if query else "")


def ids(row: Row, items: list[dict[str, Any]]) -> list[Any]:
    return [field(item, row.id) for item in items]


@pytest.mark.parametrize("row", ROWS)
def test_the_list_answers_what_there_is(cloud: Seeded, row: Row) -> None:
    items = listed(cloud, row)
    assert len(items) >= row.least
    if row.service != "volume" or row.id != "binary":
        assert len(set(ids(row, items))) == len(items), "an item is listed twice"


@pytest.mark.parametrize("row", [p for p in ROWS if p.values[0].pages != WHOLE])  # type: ignore[union-attr]
def test_pages_together_are_the_list(cloud: Seeded, row: Row) -> None:
    whole = ids(row, listed(cloud, row))
    size = max(1, len(whole) // 3)
    seen: list[Any] = []
    path = _path(cloud, row, limit=size)
    for _ in range(len(whole) + 2):
        answer = cloud.get(row.service, path)
        seen += ids(row, answer[row.collection])
        assert len(answer[row.collection]) <= size
        path = _next(cloud, row, answer)
        if not path:
            break
    assert seen == whole


def _next(cloud: Seeded, row: Row, answer: dict[str, Any]) -> str:
    """The path of the next page, "" on the last."""
    if row.pages == NEXT:
        return str(answer.get("next", ""))
    assert row.pages == LINKS
    links = [one["href"] for one in answer.get(row.links or f"{row.collection}_links", []) if one["rel"] == "next"]
    start = f"{cloud.http.base_url}/{row.service}".replace("//" + row.service, "/" + row.service)
    assert all(link.startswith(start) for link in links), (links, start)
    return links[0].removeprefix(start) if links else ""


@pytest.mark.parametrize("row", [p for p in ROWS if p.values[0].pages != WHOLE])  # type: ignore[union-attr]
@pytest.mark.parametrize("query", [{"limit": "-1"}, {"limit": "many"}, {"marker": "no-such-thing"}], ids=str)
def test_a_senseless_page_is_refused(cloud: Seeded, row: Row, query: dict[str, str]) -> None:
    answer = cloud.http.get(f"/{row.service}{_path(cloud, row, **query)}", headers=VERSIONS.get(row.service, {}))
    assert answer.status_code in (400, 404), answer.text[:300]


SORTED = [pytest.param(row, name, id=f"{row.service}{row.path} by {name}") for row in LISTS for name in row.sorts]


@pytest.mark.parametrize(("row", "name"), SORTED)
def test_sorting_both_ways(cloud: Seeded, row: Row, name: str) -> None:
    key, _, shown = name.partition("=")
    for way in ("asc", "desc"):
        pairs = {"sort": f"{key}:{way}"} if row.sort_style == "pairs" else {"sort_key": key, "sort_dir": way}
        values = [field(item, shown or key) for item in listed(cloud, row, **pairs)]
        assert values == sorted(values, key=_rank, reverse=way == "desc"), way


def _rank(value: Any) -> tuple[bool, Any]:
    return (value is not None, value if value is not None else 0)


@pytest.mark.parametrize("row", [p for p in ROWS if p.values[0].sorts])  # type: ignore[union-attr]
def test_an_unknown_sort_key_or_direction_is_refused(cloud: Seeded, row: Row) -> None:
    key = row.sorts[0].partition("=")[0]
    for wrong in ({"sort_key": "no_such_key", "sort_dir": "asc"}, {"sort_key": key, "sort_dir": "sideways"}):
        answer = cloud.http.get(f"/{row.service}{_path(cloud, row, **wrong)}", headers=VERSIONS.get(row.service, {}))
        assert answer.status_code == 400, (wrong, answer.text[:300])


FILTERED = [pytest.param(row, name, id=f"{row.service}{row.path} {name}") for row in LISTS for name in row.filters]


@pytest.mark.parametrize(("row", "name"), FILTERED)
def test_a_filter_keeps_what_matches(cloud: Seeded, row: Row, name: str) -> None:
    key, _, shown = name.partition("=")
    items = listed(cloud, row)
    wanted = next(value for item in items if (value := field(item, shown or key)) is not None)
    found = listed(cloud, row, **{key: wanted})
    assert ids(row, found) == ids(row, [item for item in items if field(item, shown or key) == wanted])
    assert found
    if isinstance(wanted, str) and key not in ("visibility", "status", "bootable"):
        assert listed(cloud, row, **{key: "f" * 32}) == [], "a value that nobody has"


@pytest.mark.parametrize(
    ("service", "path", "collection", "query", "true"),
    QUESTIONS,
    ids=[f"{one[0]}{one[1]}?{one[3]}" for one in QUESTIONS],
)
def test_other_questions(
    cloud: Seeded, service: str, path: str, collection: str, query: str, true: Callable[[Item], bool]
) -> None:
    found = cloud.get(service, f"{path}?{query}")[collection]
    known = cloud.get(service, f"{path}?is_public=none" if "flavors" in path else path)[collection]
    assert 0 < len(found) < len(known)
    assert {str(one) for one in map(_key, found)} == {str(one) for one in map(_key, filter(true, known))}


def _key(item: Item) -> Any:
    return item.get("id") or item.get("uuid")
