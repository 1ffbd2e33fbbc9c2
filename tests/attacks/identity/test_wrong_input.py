"""Wrong input at every door of identity: a refusal that says what is wrong, never an error of ours, nothing written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from kilonova.http.route import Route
from kilonova.identity.schema import metadata, token_version
from kilonova.identity.service import ROUTES
from tests.api.identity.support import Cloud

WRONG: tuple[Any, ...] = (
    None, True, -1, 2**70, 1.5, "", "x" * 300, "\0", "\ud7ff\u202e", [], [None], [[]], {}, {"id": []}, {"": {"": ""}},
    [{}], "../../etc/passwd", "%(x)s", "'; DROP TABLE user_account; --",
)  # fmt: skip
ODD_IDS = ("x", "%00", "..", "%2e%2e%2f", "x" * 3000, "%F0%9F%92%A9", "'%20OR%20'1'='1", "-1", "%ff%fe", "null", "*")
ODD_QUERIES = (
    "limit=abc", "limit=-1", "marker=none", "name=%00", "enabled=perhaps", "sort_key=password_hash", "name__regex=(",
    "domain_id=%27", "name=" + "x" * 5000, "id=%ff", "=", "&&&", "a[]=1", "user.id=%00", "scope.project.id=x",
    "include_subtree", "effective=1&group.id=x", "name__contains=%25_", "parents_as_list&parents_as_ids",
)  # fmt: skip


def _rows(connection: sa.Connection) -> dict[str, list[Any]]:
    """All that is written, but for counters that go up whenever somebody tries."""
    return {
        table.name: [tuple(row) for row in connection.execute(sa.select(table))]
        for table in metadata.sorted_tables
        if table is not token_version
    }


def _writes(connection: sa.Connection) -> int:
    """Goes up with every row that is written, also when that is taken back: as long as it stays, nothing was."""
    return int(connection.exec_driver_sql("SELECT total_changes()").scalar() or 0)


def _filled(route: Route, ids: dict[str, str], otherwise: str = "x") -> str:
    return "/".join(ids.get(part[1:-1], otherwise) if part.startswith("{") else part for part in route.path.split("/"))


def _sample(kind: Any) -> Any:
    """A value that is right for a required field, as far as its type tells."""
    if isinstance(kind, msgspec.inspect.DictType):
        return {"name": "fresh"}
    if isinstance(kind, msgspec.inspect.StructType):
        return {field.encode_name: _sample(field.type) for field in kind.fields if field.required}
    simple = {msgspec.inspect.BoolType: True, msgspec.inspect.IntType: 1, msgspec.inspect.ListType: []}
    return simple.get(type(kind), "fresh")


def _bodies(route: Route) -> Iterator[Any]:
    """Bodies whose shape is wrong, and bodies that are right but for one field."""
    yield from (None, [], "x", 5, {}, {"auth": None}, {"unknown": {}})
    inside = msgspec.inspect.type_info(route.body)
    assert isinstance(inside, msgspec.inspect.StructType)
    right, fields = _sample(inside), [field.encode_name for field in inside.fields]
    if len(fields) == 1 and isinstance(right.get(fields[0]), dict):  # {"user": {…}}: what is inside has no type
        (key,), right, fields = fields, right[fields[0]], []
    else:
        key = route.envelope
    known = (*fields, "name", "domain_id", "parent_id", "options", "enabled", "description", "password", "tags")
    for name in dict.fromkeys(known):
        for one in WRONG:
            body = right | {name: one}
            yield {key: body} if key else body
    for one in WRONG:
        yield {key: one} if key else {"unknown": one}


async def _ids(cloud: Cloud) -> dict[str, str]:
    made = cloud.made
    return {
        "user_id": made.user_ids["demo"], "actor_id": made.user_ids["demo"], "project_id": made.project_id,
        "scope_id": made.project_id, "domain_id": "default", "role_id": made.role_ids["reader"],
        "prior_id": made.role_ids["reader"], "implied_id": made.role_ids["service"], "region_id": "RegionOne",
    }  # fmt: skip


WITH_BODY = [route for route in ROUTES if route.method in ("POST", "PUT", "PATCH") and route.body is not None]


@pytest.mark.parametrize("route", WITH_BODY, ids=lambda route: f"{route.method} {route.path}")
async def test_bodies_that_cannot_be(cloud: Cloud, route: Route) -> None:
    admin, ids = await cloud.admin(), await _ids(cloud)
    db, refused = cloud.service.db, 0
    before, writes = await db.read(_rows), await db.read(_writes)
    for body in _bodies(route):
        reply = await admin.send(route.method, _filled(route, ids, "fresh"), body)
        assert reply.status < 500, (body, reply.content)
        now = before if writes == await db.read(_writes) else await db.read(_rows)
        if reply.status >= 400:
            assert reply.json()["error"]["message"], reply.content
            assert now == before, body
            refused += 1
        before, writes = now, await db.read(_writes)
    assert refused >= 7  # the shapes, at least


async def test_paths_that_name_nothing(cloud: Cloud) -> None:
    admin, ids = await cloud.admin(), await _ids(cloud)
    before = await cloud.service.db.read(_rows)
    for route in ROUTES:
        if "{" not in route.path or route.method == "PUT" or "auth" in route.path:
            continue
        for odd in ODD_IDS:
            path = _filled(route, {} if odd in ("x", "%00", "%ff%fe") else ids, odd)
            if all(part in ids.values() or not part.startswith("{") for part in path.split("/")) and odd not in path:
                continue  # nothing in it is odd: it would do what it is there for
            reply = await admin.send(route.method, path, {route.envelope: {}} if route.envelope else {})
            assert 200 <= reply.status < 500, (route.method, path[:100], reply.content)
    assert await cloud.service.db.read(_rows) == before


async def test_questions_that_make_no_sense(cloud: Cloud) -> None:
    admin, ids = await cloud.admin(), await _ids(cloud)
    before = await cloud.service.db.read(_rows)
    for route in ROUTES:
        if route.method == "GET" and route.needs_token:
            for query in ODD_QUERIES:
                reply = await admin.send("GET", f"{_filled(route, ids)}?{query}")
                assert reply.status < 500, (route.path, query[:60], reply.content)
    assert await cloud.service.db.read(_rows) == before
