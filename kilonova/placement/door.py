"""Placement's door: the field's rules about content types, which other services leave alone."""

from __future__ import annotations

from typing import Any

from kilonova.base.faults import Fault, Kind
from kilonova.http.app import App
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route

JSON = "application/json"
CODES_SINCE = (1, 23)  # errors say a code that programs act on


class PlacementDoor(App):
    """An App that takes JSON only (415 for a body of another type) and speaks JSON only (406 for who reads none)."""

    async def _choose(self, request: Request[Any], routes: list[Route]) -> Route:
        if any(route.body is not None or route.raw for route in routes):
            _check_sent(request)
        elif request.method == "GET" and any(route.needs_token for route in routes):
            _check_accepted(request)
        return await super()._choose(request, routes)

    def _refusal(self, request: Request[Any], fault: Fault) -> tuple[Answer, int]:
        answer, status = super()._refusal(request, fault)
        if request.version < CODES_SINCE:
            for error in answer.body["errors"]:
                del error["code"]
        return answer, status


def _check_sent(request: Request[Any]) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == JSON:
        return
    if not kind and request.headers.get("content-length", "0") != "0":
        raise Fault(Kind.INVALID, "content-type header required when content-length > 0.")
    raise Fault(
        Kind.INVALID,
        f"The media type {kind[:60] or None} is not supported, use {JSON}.",
        data={"status": 415},
    )


def _check_accepted(request: Request[Any]) -> None:
    accepted = [part.partition(";")[0].strip().lower() for part in request.headers.get("accept", "*/*").split(",")]
    if not {JSON, "application/*", "*/*", ""} & set(accepted):
        raise Fault(Kind.INVALID, f"Only {JSON} is provided.", data={"status": 406})
