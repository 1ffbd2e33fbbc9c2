"""Request and Answer: what a handler gets and gives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from kilonova.base.caller import ANONYMOUS, Caller
from kilonova.base.faults import Fault, invalid, too_large
from kilonova.http.contract import Enforcer
from kilonova.http.versions import NONE, Version

B = TypeVar("B")
Receive = Callable[[], Awaitable[Any]]
JSON_BODY_MAXIMUM_BYTES = 1 << 20


class Answer(msgspec.Struct):
    """An answer that is more than a body at the route's success code. `body` is JSON-ready, bytes or None."""

    body: Any = None
    status: int = 0  # 0: the route's success code
    headers: dict[str, str] = {}
    content_type: str = "application/json"
    stream: AsyncIterator[bytes] | None = None  # instead of body; set content-length in headers when known


class Query:
    """The query string: repeated keys kept, types checked with errors that name the parameter."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self.pairs = pairs
        self._first: dict[str, str] = {}
        for key, value in pairs:
            self._first.setdefault(key, value)

    def __contains__(self, key: str) -> bool:
        return key in self._first

    def keys(self) -> set[str]:
        """Names that were given."""
        return set(self._first)

    def get(self, key: str, default: str | None = None) -> str | None:
        """The first value of `key`."""
        return self._first.get(key, default)

    def all(self, key: str) -> list[str]:
        """Every value of `key`, in order."""
        return [value for name, value in self.pairs if name == key]

    def integer(self, key: str, *, minimum: int = 0) -> int | None:
        """A whole number ≥ minimum, or None when not given."""
        text = self._first.get(key)
        if text is None:
            return None
        if not (text.isascii() and text.lstrip("-").isdigit()) or len(text) > 18 or int(text) < minimum:
            raise invalid(f"Invalid input for query parameter {key}: {text[:40]!r} is not an integer >= {minimum}.")
        return int(text)

    def boolean(self, key: str) -> bool | None:
        """true/false in the forms the field accepts, or None when not given."""
        text = self._first.get(key)
        if text is None:
            return None
        lowered = text.lower()
        if lowered in ("1", "t", "true", "on", "y", "yes", ""):
            return True
        if lowered in ("0", "f", "false", "off", "n", "no"):
            return False
        raise invalid(f"Invalid input for query parameter {key}: {text[:40]!r} is not a boolean.")


class Request(Generic[B]):
    """One request, parsed, with its caller. Handlers must call `enforce` unless their route says it is open."""

    __slots__ = (
        "_enforcer",
        "_policy",
        "_receive",
        "body",
        "caller",
        "enforced",
        "headers",
        "idempotency_key",
        "method",
        "origin",
        "path",
        "query",
        "request_id",
        "route",
        "url_path",
        "version",
    )

    def __init__(self, method: str, url_path: str, headers: Mapping[str, str], query: Query, receive: Receive) -> None:
        self.method = method
        self.url_path = url_path  # as the client sent it, without the query
        self.headers = headers  # lower-case names
        self.query = query
        self._receive = receive
        self.origin = ""  # scheme://host:port/prefix of this service, for links
        self.path: dict[str, str] = {}
        self.version: Version = NONE
        self.caller: Caller = ANONYMOUS
        self.request_id = ""
        self.route = ""  # the template of the path, once it is known
        self.idempotency_key = headers.get("idempotency-key", "")[:200]
        self.body: B = None  # type: ignore[assignment]
        self.enforced = False
        self._enforcer: Enforcer | None = None
        self._policy = ""

    def governed_by(self, enforcer: Enforcer | None, policy: str) -> None:
        """Set by the app: which rule `enforce` means."""
        self._enforcer = enforcer
        self._policy = policy

    def enforce(self, target: Mapping[str, Any] | None = None, rule: str = "") -> None:
        """Check the route's rule (or `rule`) against `target`; by default what belongs to the caller's own project."""
        self.enforced = True
        if self._enforcer is None:
            raise Fault.wrap(RuntimeError("no enforcer is wired"))
        self._enforcer.enforce(rule or self._policy, self.caller, self._own() if target is None else target)

    def allows(self, rule: str, target: Mapping[str, Any] | None = None) -> bool:
        """Whether the caller passes `rule`: for field visibility and admin-only filters."""
        if self._enforcer is None:
            return False
        return self._enforcer.allows(rule, self.caller, self._own() if target is None else target)

    def _own(self) -> dict[str, Any]:
        return {"project_id": self.caller.project_id, "user_id": self.caller.user_id}

    async def stream(self) -> AsyncIterator[bytes]:
        """The body as it arrives, for uploads. A client that goes away raises INVALID."""
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise invalid("The client closed the connection before the body was complete.")
            if chunk := message.get("body"):
                yield chunk
            if not message.get("more_body"):
                return

    async def read(self, maximum_bytes: int = JSON_BODY_MAXIMUM_BYTES) -> bytes:
        """The whole body; larger than `maximum_bytes` is TOO_LARGE, noticed before it is all read."""
        declared = self.headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > maximum_bytes:
            raise too_large(f"The request body is larger than {maximum_bytes} bytes.")
        message = await self._receive()
        body: bytes = message.get("body", b"")
        if not message.get("more_body"):
            return body
        parts, size = [body], len(body)
        async for chunk in self.stream():
            parts.append(chunk)
            size += len(chunk)
            if size > maximum_bytes:
                raise too_large(f"The request body is larger than {maximum_bytes} bytes.")
        return b"".join(parts)
