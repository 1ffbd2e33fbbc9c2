"""Route: one declaration per operation, from which come routing, checks, answers, OpenAPI and generated tests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from kilonova.http.request import Request
from kilonova.http.versions import Version, within

Handler = Callable[[Any, Request[Any]], Awaitable[Any]]


@dataclass(frozen=True, kw_only=True)
class Route:
    """`method path` is done by `handler(service, request)`.

    `policy` names the rule that the handler enforces with its target; `open_because` says why there is none.
    `body` is the struct of the JSON body, inside `envelope` when set ({"server": {…}}); `action` picks one of several
    routes with the same method and path by the body's only key ({"os-start": null}). `raw` leaves the body unread,
    for streams. `since`/`until` are microversions. `agents`: a host's agents may ask it in their own name, and the
    handler answers about that host only; other routes refuse them.
    """

    method: str
    path: str
    handler: Handler
    policy: str = ""
    open_because: str = ""
    needs_token: bool = True
    body: type[Any] | None = None
    envelope: str = ""
    action: str = ""
    raw: bool = False
    agents: bool = False
    success: int = 200
    since: str = ""
    until: str = ""
    summary: str = ""

    def serves(self, version: Version) -> bool:
        """Whether the route exists at `version`."""
        return not (self.since or self.until) or within(version, self.since, self.until)


class Router:
    """Finds the routes of a path: a tree of segments, literal before {parameter}, `{name:path}` takes the rest."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._root: dict[str, Any] = {}
        for route in self.routes:
            self._add(route)

    def _add(self, route: Route) -> None:
        node = self._root
        names = []
        for segment in _segments(route.path):
            if segment.startswith("{"):
                name = segment[1:-1]
                key = "**" if name.endswith(":path") else "*"
                names.append(name.removesuffix(":path"))
            else:
                key = "/" + segment
            node = node.setdefault(key, {})
        node.setdefault("routes", []).append((route, tuple(names)))

    def find(self, path: str) -> tuple[list[tuple[Route, tuple[str, ...]]], list[str]]:
        """([(route, parameter names)], parameter values) for `path`; ([], []) when there is none."""
        parts = _segments(path)
        at, node = 0, self._root
        while at < len(parts) and "*" not in node and "**" not in node:  # nothing to choose between
            node = node.get("/" + parts[at], _NOWHERE)
            at += 1
        values: list[str] = []
        found = _walk(node, parts, at, values)
        return (found, values) if found else ([], [])


_NOWHERE: Final[dict[str, Any]] = {}


def _segments(path: str) -> list[str]:
    return list(filter(None, path.split("/")))


def _walk(node: dict[str, Any], parts: list[str], at: int, values: list[str]) -> Any:
    if at == len(parts):
        return node.get("routes")
    if (child := node.get("/" + parts[at])) is not None and (found := _walk(child, parts, at + 1, values)):
        return found
    if (child := node.get("*")) is not None:
        values.append(parts[at])
        if found := _walk(child, parts, at + 1, values):
            return found
        values.pop()
    if (child := node.get("**")) is not None:
        values.append("/".join(parts[at:]))
        return child.get("routes")
    return None
