"""Every path exists twice: with the project's id, as catalogs always had it, and without."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any

from kilonova.base.faults import invalid
from kilonova.http.request import Request
from kilonova.http.route import Handler, Route

OWNER_PATH = "owner_project_id"


def under_v3(routes: Iterable[Route]) -> tuple[Route, ...]:
    """Routes `/volumes` as `/v3/volumes` and `/v3/{project id}/volumes`."""
    made = []
    for route in routes:
        made.append(dataclasses.replace(route, path=f"/v3{route.path}"))
        path = f"/v3/{{{OWNER_PATH}}}{route.path}"
        made.append(dataclasses.replace(route, path=path, handler=_of_project(route.handler)))
    return tuple(made)


def _of_project(handler: Handler) -> Handler:
    @functools.wraps(handler)
    async def checked(service: Any, request: Request[Any]) -> Any:
        if request.path.pop(OWNER_PATH) != request.caller.project_id:
            raise invalid("Malformed request url", hint="The project in the path must be the token's.")
        return await handler(service, request)

    return checked


def prefix(request: Request[Any]) -> str:
    """`ORIGIN/v3` or `ORIGIN/v3/PROJECT`, as the request was addressed: for links."""
    parts = request.url_path.split("/")
    given = len(parts) > 2 and parts[2] == request.caller.project_id
    return f"{request.origin}/v3/{parts[2]}" if given else f"{request.origin}/v3"
