"""The door of every service: routes, versions, callers, bodies, and what refusals look like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from kilonova.base.faults import conflict
from kilonova.http.client import AsgiTransport, Reply
from kilonova.http.faults import BLOCK_STORAGE, COMPUTE, IDENTITY, IMAGE, NETWORK, PLACEMENT, FaultStyle
from kilonova.http.request import JSON_BODY_MAXIMUM_BYTES
from kilonova.trace import metrics
from tests.unit.http.door import door

LATEST = {"openstack-api-version": "compute latest"}


async def ask(
    method: str, path: str, body: Any = b"", *, style: FaultStyle = COMPUTE, headers: Mapping[str, str] | None = None
) -> Reply:
    sent = {"x-auth-token": "alice"} | dict(headers or {})
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return await AsgiTransport(door(style)).send(method, path, sent, raw)


async def test_a_literal_segment_wins_over_a_parameter() -> None:
    assert (await ask("GET", "/lamps/detail")).json() == {"detail": True}
    assert (await ask("GET", "/lamps/l1")).json()["path"] == {"lamp_id": "l1"}
    assert (await ask("GET", "/lamps/a%2Fb")).json()["path"] == {"lamp_id": "a/b"}


async def test_no_such_path() -> None:
    reply = await ask("GET", "/candles")
    assert reply.status == 404
    assert reply.json()["itemNotFound"]["code"] == 404


async def test_a_method_that_is_not_there_says_which_are() -> None:
    reply = await ask("PUT", "/lamps/l1")
    assert (reply.status, reply.headers["allow"]) == (405, "DELETE, GET")


async def test_answers_are_counted_by_the_route_and_not_by_the_path() -> None:
    def counted(route: str, status: int) -> float:
        labels = {"service": "lamps", "method": "GET", "route": route, "status": str(status)}
        return metrics.REGISTRY.get_sample_value("kilonova_http_request_seconds_count", labels) or 0.0

    before = counted("/lamps/{lamp_id}", 200), counted("none", 404)
    for path in ("/lamps/l1", "/lamps/l2", "/candles"):
        await ask("GET", path)
    assert (counted("/lamps/{lamp_id}", 200), counted("none", 404)) == (before[0] + 2, before[1] + 1)


async def test_head_is_get_without_a_body() -> None:
    reply = await ask("HEAD", "/lamps/l1")
    assert (reply.status, reply.content) == (200, b"")
    assert int(reply.headers["content-length"]) > 0


async def test_deleting_answers_without_a_body() -> None:
    reply = await ask("DELETE", "/lamps/l1")
    assert (reply.status, reply.content) == (204, b"")
    assert "content-length" not in reply.headers


@pytest.mark.parametrize(
    ("header", "version"),
    [
        ({}, [2, 1]),
        ({"openstack-api-version": "compute 2.30"}, [2, 30]),
        ({"openstack-api-version": "volume 3.4, compute 2.31"}, [2, 31]),
        (LATEST, [2, 96]),
        ({"x-openstack-nova-api-version": "2.7"}, [2, 7]),
    ],
)
async def test_the_version_asked_for_is_served_and_told(header: dict[str, str], version: list[int]) -> None:
    reply = await ask("GET", "/lamps/l1", headers=header)
    assert reply.json()["version"] == version
    assert reply.headers["openstack-api-version"] == f"compute {version[0]}.{version[1]}"
    assert "OpenStack-API-Version" in reply.headers["vary"]


@pytest.mark.parametrize(("text", "status"), [("2.97", 406), ("1.0", 406), ("2", 400), ("2.01", 400), ("x.y", 400)])
async def test_versions_that_are_not_served(text: str, status: int) -> None:
    reply = await ask("GET", "/lamps/l1", headers={"openstack-api-version": f"compute {text}"})
    assert reply.status == status


async def test_a_route_exists_from_its_version_on() -> None:
    assert (await ask("GET", "/new")).status == 404
    assert (await ask("GET", "/new", headers=LATEST)).status == 200


async def test_no_token_no_answer() -> None:
    reply = await ask("GET", "/lamps/l1", headers={"x-auth-token": ""})
    assert reply.status == 401
    assert reply.headers["www-authenticate"].startswith("Keystone uri=")
    assert (await ask("GET", "/", headers={"x-auth-token": ""})).status == 200


async def test_the_policy_refuses() -> None:
    reply = await ask("GET", "/forbidden")
    assert reply.status == 403
    assert "lamps:forbidden" in reply.json()["forbidden"]["message"]


async def test_an_answer_that_forgot_to_ask_the_policy_is_never_sent() -> None:
    reply = await ask("GET", "/forgetful")
    assert reply.status == 500
    assert b"shown without asking" not in reply.content


async def test_an_unexpected_error_tells_nothing_of_the_inside() -> None:
    reply = await ask("GET", "/explode")
    assert reply.status == 500
    assert b"inner thing" not in reply.content
    assert reply.headers["x-openstack-request-id"].startswith("req-")


async def test_a_body_is_checked_and_the_field_named() -> None:
    made = await ask("POST", "/lamps", {"lamp": {"name": "desk"}})
    assert made.status == 201
    assert made.headers["location"] == "http://localhost/lamps/1"
    for body, told in [
        ({"lamp": {"name": 7}}, "lamp.name"),
        ({"lamp": {"name": "x", "volts": 1}}, "volts"),
        ({"lamp": {}}, "name"),
        ({"server": {}}, "'lamp' is a required property"),
        ([], "JSON object"),
        (b"{", "not valid JSON"),
        (b"", "not valid JSON"),
    ]:
        reply = await ask("POST", "/lamps", body)
        assert reply.status == 400, body
        assert told in reply.json()["badRequest"]["message"]


async def test_a_field_lives_from_version_to_version() -> None:
    tagged, old = {"lamp": {"name": "x", "tags": ["a"]}}, {"lamp": {"name": "x", "old": "a"}}
    refused = await ask("POST", "/lamps", tagged)
    assert refused.status == 400
    assert "from API version 2.52" in refused.json()["badRequest"]["message"]
    assert (await ask("POST", "/lamps", tagged, headers=LATEST)).status == 201
    assert (await ask("POST", "/lamps", old)).status == 201
    assert (await ask("POST", "/lamps", old, headers=LATEST)).status == 400


async def test_actions_are_told_apart_by_their_only_key() -> None:
    assert (await ask("POST", "/lamps/1/action", {"os-start": None})).status == 202
    assert (await ask("POST", "/lamps/1/action", {"os-stop": None})).status == 202
    for body in ({"os-melt": None}, {"os-start": None, "os-stop": None}, {}, []):
        assert (await ask("POST", "/lamps/1/action", body)).status == 400


async def test_bodies_that_are_too_large_are_refused_unread() -> None:
    reply = await ask("POST", "/lamps", b"[" + b" " * JSON_BODY_MAXIMUM_BYTES + b"]")
    assert reply.status == 413


async def test_a_large_body_without_a_length_is_noticed_while_it_comes() -> None:
    taken, sent = 0, []

    async def receive() -> dict[str, Any]:
        nonlocal taken
        taken += 1
        return {"type": "http.request", "body": b" " * 100_000, "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"x-auth-token", b"alice")]
    await door()({"type": "http", "method": "POST", "path": "/lamps", "headers": headers}, receive, send)
    assert sent[0]["status"] == 413
    assert taken < 15


@pytest.mark.parametrize(
    ("style", "where"),
    [
        (COMPUTE, ("conflictingRequest", "message")),
        (BLOCK_STORAGE, ("conflictingRequest", "message")),
        (IDENTITY, ("error", "message")),
        (NETWORK, ("NeutronError", "message")),
        (IMAGE, ("message",)),
        (PLACEMENT, ("errors", 0, "detail")),
    ],
)
async def test_each_services_refusals_have_its_own_form(style: FaultStyle, where: tuple[Any, ...]) -> None:
    reply = await ask("GET", "/clash", style=style)
    found = reply.json()
    for key in where:
        found = found[key]
    assert (reply.status, found) == (409, "The lamp is locked. Unlock it.")
    assert b"/var/lib/x" not in reply.content


def test_network_and_placement_carry_the_reason_as_a_word() -> None:
    fault = conflict("The lamp is locked.", code="placement.concurrent_update")
    assert PLACEMENT.body(fault, 409, "req-1")["errors"][0]["code"] == "placement.concurrent_update"
    assert PLACEMENT.body(conflict("x"), 409, "req-1")["errors"][0]["code"] == "placement.undefined_code"
    assert NETWORK.body(conflict("x", code="PortInUse"), 409, "req-1")["NeutronError"]["type"] == "PortInUse"
    assert NETWORK.body(conflict("x"), 409, "req-1")["NeutronError"]["type"] == "Conflict"
