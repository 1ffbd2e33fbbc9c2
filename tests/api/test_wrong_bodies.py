"""Whatever is sent to whatever route, the answer says what is wrong with it: never 500, never silence.

The bodies are made from the declared routes: for each field of each body, at every depth, values of the wrong type, too
long, too large, of strange letters. What a route with an id is asked of is there, when the cloud has one.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import inspect

from kilonova.http.route import Route
from tests.api.lists.seeded import VERSIONS, Seeded
from tests.api.lists.test_lists import SERVICES
from tests.fake_cloud import fake_cloud

TEXTS = ("", "x" * 300, "Ａ\u202e\u0000\ud7ff", "../../etc/passwd", "-1")
WRONG = (None, True, -1, 1 << 70, 1.5, [], [None], [[]], {}, {"": {}}, {"id": []}, *TEXTS)
BODIES = (*WRONG, [1], [{}], [{"op": 1}], [{"op": "add", "path": "/name", "value": []}])
QUERIES = ("limit=x", "limit=-1", "limit=99999999999999999999", "marker=%00", "sort_key=%27&sort_dir=up",
           "name=%FF%00&all_tenants=x", "changes-since=yesterday", "created_at=in:x", "fields=%00")  # fmt: skip
NEVER = {"/v3/auth/tokens": "logging in again and again is slow, and its own tests are stricter"}
DEPTH = 3


def sample(kind: inspect.Type, depth: int = 0) -> Any:
    """A value of the type, as small as can be."""
    match kind:
        case inspect.StructType(fields=fields):
            return {one.encode_name: sample(one.type, depth + 1) for one in fields if one.required}
        case inspect.UnionType(types=types):
            return sample(next((one for one in types if not isinstance(one, inspect.NoneType)), types[0]), depth)
        case inspect.StrType() | inspect.AnyType():
            return "x"
        case inspect.LiteralType(values=values):
            return values[0]
        case inspect.IntType() | inspect.FloatType():
            return 1
        case inspect.BoolType():
            return True
        case inspect.ListType() | inspect.SetType() | inspect.VarTupleType():
            return []
        case inspect.DictType():
            return {}
    return None


def mutants(kind: inspect.Type, depth: int = 0) -> Iterator[Any]:
    """Values that differ from the sample in one place, at any depth."""
    if depth > 0:
        yield from WRONG
    match kind:
        case inspect.StructType(fields=fields) if depth < DEPTH:
            whole = sample(kind)
            yield from ({key: value for key, value in whole.items() if key != left} for left in whole)
            yield {**whole, "no such field": 1}
            for one in fields:
                yield from ({**whole, one.encode_name: wrong} for wrong in mutants(one.type, depth + 1))
        case inspect.UnionType(types=types):
            for one in types:
                if isinstance(one, inspect.StructType | inspect.ListType | inspect.DictType):
                    yield from mutants(one, depth)
        case inspect.ListType(item_type=item) if depth < DEPTH:
            yield from ([wrong] for wrong in mutants(item, depth + 1))
        case inspect.DictType(value_type=value) if depth < DEPTH:
            yield from ({"key": wrong} for wrong in mutants(value, depth + 1))


def bodies(route: Route) -> Iterator[Any]:
    """Wrong bodies for the route, each different from the others."""
    seen = set()
    if route.body is not None and isinstance(route.body, type) and issubclass(route.body, msgspec.Struct):
        made: Iterator[Any] = mutants(inspect.type_info(route.body))
    else:
        made = iter(BODIES)
    for one in made:
        body = {route.envelope: one} if route.envelope else {route.action: one} if route.action else one
        key = msgspec.json.encode(body)
        if key not in seen:
            seen.add(key)
            yield body


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seeded]:
    with fake_cloud(Path(tmp_path_factory.mktemp("wrong") / "cloud")) as made:
        seeded = Seeded(made)
        seeded.fill()
        yield seeded


def path_of(route: Route, cloud: Seeded, service: str) -> str:
    """The route's path, of what the cloud has."""

    def fill(place: re.Match[str]) -> str:
        name = place[1].removesuffix(":path")
        if name in ("project_id", "owner_project_id"):
            return cloud.project_id
        return cloud.ids.get(name) or str(uuid.UUID(int=7))

    return f"/{service}{re.sub(r'{([^}]+)}', fill, route.path)}"


def refused(cloud: Seeded, service: str, method: str, path: str, body: bytes | None = None) -> str:
    """What is wrong with the answer, "" when nothing is."""
    patch = service == "image" and method == "PATCH"
    kind = "application/openstack-images-v2.1-json-patch" if patch else "application/json"
    headers = {**VERSIONS.get(service, {}), "content-type": kind}
    answer = cloud.http.request(method, path, content=body, headers=headers)
    if answer.status_code < 500:
        return ""
    return f"{method} {path} {body!r:.200} → {answer.status_code} {answer.text[:200]}"


@pytest.mark.parametrize("service", list(SERVICES))
def test_no_body_is_too_wrong_to_be_refused(cloud: Seeded, service: str) -> None:
    wrong, asked = [], 0
    for route in SERVICES[service]:
        if route.method not in ("POST", "PUT", "PATCH") or route.path in NEVER or "{project_id}" in route.path:
            continue
        path = path_of(route, cloud, service)
        for body in bodies(route):
            asked += 1
            if found := refused(cloud, service, route.method, path, msgspec.json.encode(body)):
                wrong.append(found)
                break  # one for each route is enough to read
    assert asked > 200
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("service", list(SERVICES))
def test_no_path_or_query_is_too_wrong_to_be_refused(cloud: Seeded, service: str) -> None:
    wrong = []
    for route in SERVICES[service]:
        if route.method != "GET":
            continue
        path = path_of(route, cloud, service)
        strange = re.sub(r"{[^}]+}", "%F0%9F%92%A5%00" + "x" * 300, f"/{service}{route.path}")
        for one in (strange, *(f"{path}?{query}" for query in QUERIES)):
            if found := refused(cloud, service, "GET", one):
                wrong.append(found)
    assert not wrong, "\n".join(wrong)
