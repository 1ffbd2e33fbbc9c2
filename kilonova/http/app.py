"""App: a service's routes as an ASGI application. Every request takes the same path, readable from `_serve` down:

find the route, version, caller, body, handler, answer; a Fault anywhere becomes the service's error body.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from operator import attrgetter
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec

from kilonova.base.caller import Caller
from kilonova.base.faults import Fault, Kind, bug, forbidden, invalid, not_found, unauthenticated
from kilonova.base.world import World
from kilonova.http.access_rules import permits
from kilonova.http.contract import Authenticator, Enforcer
from kilonova.http.faults import FaultStyle
from kilonova.http.request import Answer, Query, Request
from kilonova.http.route import Route, Router
from kilonova.http.schema import convert, decode_json
from kilonova.http.versions import Versioning
from kilonova.trace import metrics, spans

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode
_needs_token = attrgetter("needs_token")


def _check_texts(request: Request[Any]) -> None:
    """Refuse the character NUL: no name or id has it, and not every database can be asked for it."""
    if "\0" in "".join(request.path.values()):
        raise Fault(Kind.NOT_FOUND, "The resource could not be found.", inside="a NUL in the path")
    if "\0" in "".join(map("".join, request.query.pairs)):
        raise invalid("The query holds the character NUL, which no text may have.")


class App:
    """One service's API. `service` is handed to every handler; `participant` is its name in traces.

    `lenient` (set it on the made App): numbers and booleans of a body may come as strings, "1400" or "True".
    `exact` (likewise): a path that ends in / names nothing, as `/images/` with an empty id.
    """

    def __init__(
        self,
        world: World,
        service: object,
        routes: Iterable[Route],
        *,
        participant: str,
        style: FaultStyle,
        versioning: Versioning | None = None,
        authenticator: Authenticator | None = None,
        enforcer: Enforcer | None = None,
    ) -> None:
        self.world = world
        self.service = service
        self.router = Router(routes)
        self.participant = participant
        self.style = style
        self.versioning = versioning or Versioning()
        self.authenticator = authenticator
        self.enforcer = enforcer
        self.lenient = False
        self.exact = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; names of headers come in lower case, as ASGI has it."""
        if scope["type"] != "http":
            return
        began = time.perf_counter()
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        request_id = f"req-{self.world.ids.uuid()}"
        path = scope["path"].removeprefix(scope.get("root_path", "")) or "/"
        with spans.arrival(
            self.participant,
            f"{scope['method']} {path}",
            traceparent=headers.get("traceparent", ""),
            source=headers.get("x-kilonova-participant", "client"),
            request_id=request_id,
        ) as span:
            request = self._request(scope, path, headers, receive, request_id)
            answer, status = await self._answer(request)
            span.attributes["status"] = str(status)
            if request.caller.audit_ids:
                span.attributes["audit"] = request.caller.audit_ids[0]
            span.error = f"{status}" if status >= 400 else ""
            await self._send(request, answer, status, send)
        labels = (self.participant, request.method, request.route or "none", str(status))
        metrics.http_request(labels, time.perf_counter() - began)

    def _request(
        self, scope: Scope, path: str, headers: Mapping[str, str], receive: Receive, request_id: str
    ) -> Request[Any]:
        asked = scope.get("query_string", b"")
        pairs = parse_qsl(asked.decode("latin-1"), keep_blank_values=True) if asked else []
        request: Request[Any] = Request(scope["method"], path, headers, Query(pairs), receive)
        host = headers.get("x-forwarded-host") or headers.get("host", "localhost")
        request.origin = (
            f"{headers.get('x-forwarded-proto') or scope.get('scheme', 'http')}://{host}{scope.get('root_path', '')}"
        )
        request.request_id = request_id
        return request

    async def _answer(self, request: Request[Any]) -> tuple[Answer, int]:
        try:
            return await self._serve(request)
        except Fault as fault:
            return self._refusal(request, fault)
        except Exception as error:  # the edge: nothing may leave as a traceback
            log.exception("request %s %s failed", request.method, request.url_path)
            return self._refusal(request, bug(f"{type(error).__name__}: {error}"))

    async def _serve(self, request: Request[Any]) -> tuple[Answer, int]:
        nothing = self.exact and request.url_path.endswith("/") and request.url_path.count("/") > 2
        found, values = ([], []) if nothing else self.router.find(request.url_path)
        request.version = self.versioning.asked(request.headers)
        if found:
            request.path = dict(zip(found[0][1], map(unquote, values), strict=True))
            _check_texts(request)
        candidates = self._by_method(request, found)
        if any(map(_needs_token, candidates)):
            request.caller = await self._authenticate(request)
        route = await self._choose(request, candidates)
        request.route = route.path
        if request.caller.is_agent and route.needs_token and not route.agents:
            raise forbidden("A host's agents may not do that in their own name.", code="NotForAgents")
        request.governed_by(self.enforcer, route.policy)
        result = await route.handler(self.service, request)
        if route.policy and not request.enforced:
            raise bug(f"{route.method} {route.path} answered without enforcing {route.policy}")
        answer = result if isinstance(result, Answer) else Answer(result)
        return answer, answer.status or route.success

    def _by_method(self, request: Request[Any], found: Sequence[tuple[Route, tuple[str, ...]]]) -> list[Route]:
        """Those that serve the request's method at its version; GET serves HEAD too when nothing else does."""
        mine, instead = [], []
        for route, _ in found:
            if route.method == request.method and route.serves(request.version):
                mine.append(route)
            elif route.method == "GET" and request.method == "HEAD" and route.serves(request.version):
                instead.append(route)
        if mine or instead:
            return mine or instead
        routes = [route for route, _ in found]
        method = "GET" if request.method == "HEAD" else request.method
        served = sorted({r.method for r in routes if r.serves(request.version)})
        if not served or any(r.method in (request.method, method) for r in routes):  # at other versions there is one
            raise Fault(Kind.NOT_FOUND, "The resource could not be found.", inside=request.url_path[:200])
        raise Fault(
            Kind.INVALID,
            f"The method {request.method} is not allowed for this resource.",
            hint=f"Allowed: {', '.join(served)}.",
            data={"status": 405, "headers": {"Allow": ", ".join(served)}},
        )

    async def _authenticate(self, request: Request[Any]) -> Caller:
        if self.authenticator is None:
            raise bug("no authenticator is wired")
        token = request.headers.get("x-auth-token", "")
        caller = await self.authenticator.authenticate(token, request.headers.get("x-service-token", ""))
        if caller.access_rules is not None and not caller.is_service:
            self._within_access_rules(request, caller)
        return caller

    def _within_access_rules(self, request: Request[Any], caller: Caller) -> None:
        """UNAUTHENTICATED, as the field's own door has it, for a request that the application credential excludes."""
        if self.participant == "keystone" and request.method == "GET" and request.url_path == "/v3/auth/tokens":
            return  # any token may be validated
        mount = "/" + request.origin.split("//", 1)[-1].partition("/")[2]
        paths = {request.url_path, f"{mount.rstrip('/')}{request.url_path}"}
        if not permits(caller.access_rules or (), self.participant, request.method, paths):
            raise unauthenticated(inside="no access rule of the application credential allows the request")

    async def _choose(self, request: Request[Any], routes: list[Route]) -> Route:
        """The route among those of this method, its body read and checked."""
        first = routes[0]
        if first.raw:
            return first
        wants_body = first.action or first.body is not None or len(routes) > 1
        raw = await request.read() if wants_body or request.method in ("POST", "PUT", "PATCH") else b""
        if not wants_body:
            return first
        value = decode_json(raw)
        if not first.action:
            request.body = self._body(request, first, value)
            return first
        if not isinstance(value, dict) or len(value) != 1:
            raise invalid("The request body must hold exactly one action.", hint='For example {"os-start": null}.')
        (name, argument), *_ = value.items()
        for route in routes:
            if route.action == name:
                request.body = None if route.body is None else convert(argument, route.body, request.version, name)
                return route
        raise invalid(f"There is no such action: {str(name)[:60]}", hint="See the API reference for this resource.")

    def _body(self, request: Request[Any], route: Route, value: Any) -> Any:
        assert route.body is not None
        if not isinstance(value, dict):
            raise invalid("The request body must be a JSON object.")
        if route.envelope:
            if route.envelope not in value:
                raise invalid(f"Invalid input for field body: {route.envelope!r} is a required property.")
            value = value[route.envelope]
        return convert(value, route.body, request.version, route.envelope, strict=not self.lenient)

    def _refusal(self, request: Request[Any], fault: Fault) -> tuple[Answer, int]:
        status = self.style.status(fault)
        if status >= 500:
            log.error("%s %s: %r", request.method, request.url_path, fault)
        elif status != 404:  # what polls for a deletion ask all the time
            log.info("%s %s refused with %d: %r", request.method, request.url_path, status, fault)
        headers = dict(fault.data.get("headers", {}))
        if status == 401:
            headers["WWW-Authenticate"] = f'Keystone uri="{request.origin}"'
        return Answer(self.style.body(fault, status, request.request_id), status, headers), status

    async def _send(self, request: Request[Any], answer: Answer, status: int, send: Send) -> None:
        headers = [(b"x-openstack-request-id", request.request_id.encode()), *self.versioning.headers(request.version)]
        for key, value in answer.headers.items():
            headers.append((key.lower().encode(), value.encode()))
        if answer.stream is not None:
            headers.append((b"content-type", answer.content_type.encode()))
            await send({"type": "http.response.start", "status": status, "headers": headers})
            async for chunk in answer.stream:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
            return
        body = answer.body if isinstance(answer.body, bytes) else b"" if answer.body is None else _encode(answer.body)
        if body or status not in (204, 304):
            headers.append((b"content-length", str(len(body)).encode()))
        if body:
            headers.append((b"content-type", answer.content_type.encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if request.method == "HEAD" else body})


class Mounts:
    """Several services behind one port, each under its path (`/identity`, `/compute`, …)."""

    def __init__(self, mounts: Mapping[str, Callable[[Scope, Receive, Send], Awaitable[None]]]) -> None:
        self._mounts = dict(mounts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return
        prefix = "/" + scope["path"].lstrip("/").split("/", 1)[0]
        app = self._mounts.get(prefix)
        if app is None:
            prefix, app = "", self._mounts.get("")
        if app is None:
            fault = not_found("Path", scope["path"][:200])
            body = _encode({"error": {"code": 404, "title": "Not Found", "message": fault.message}})
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 404, "headers": headers})
            await send({"type": "http.response.body", "body": body})
            return
        await app({**scope, "root_path": scope.get("root_path", "") + prefix}, receive, send)
