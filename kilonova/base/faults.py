"""Faults: a dozen kinds, each with a message for the user, a hint what to do next, and inside text for the log."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

_NOT_KNOWN = "The request you have made requires authentication."


class Kind(StrEnum):
    """What went wrong, as the caller should understand it. HTTP status and log level hang on this."""

    NOT_FOUND = "not_found"
    EXISTS = "exists"
    INVALID = "invalid"
    CONFLICT = "conflict"
    FORBIDDEN = "forbidden"
    UNAUTHENTICATED = "unauthenticated"
    NO_CAPACITY = "no_capacity"
    OVER_QUOTA = "over_quota"
    TOO_LARGE = "too_large"
    BUSY = "busy"
    UNAVAILABLE = "unavailable"
    BUG = "bug"


class Fault(Exception):
    """An error that a user or operator will read.

    `message` is a plain sentence for the user; `hint` says what to do next; `inside` is for the log only and
    may name hosts, paths and SQL; `code` is a stable machine-readable reason (`PortInUse`); `data` carries
    the reason as data (per-host rejections, the state that forbids an action).
    """

    def __init__(
        self,
        kind: Kind,
        message: str,
        *,
        hint: str = "",
        inside: str = "",
        code: str = "",
        data: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.hint = hint
        self.inside = inside
        self.code = code
        self.data = data or {}

    def __repr__(self) -> str:
        return f"Fault({self.kind.value}: {self.told}{' | ' + self.inside if self.inside else ''})"

    @property
    def told(self) -> str:
        """The sentence and the hint, as a user reads them. Some sentences are the field's, to the letter, without a
        full stop: they get one only where the hint follows."""
        stop = "." if self.hint and self.message and self.message[-1] not in ".!?:" else ""
        return f"{self.message}{stop} {self.hint}".strip()

    def to_wire(self) -> dict[str, Any]:
        """A JSON-ready form that crosses the bus and the journal; no pickles."""
        wire: dict[str, Any] = {"kind": self.kind.value, "message": self.message}
        for name in ("hint", "inside", "code", "data"):
            if value := getattr(self, name):
                wire[name] = value
        return wire

    @classmethod
    def from_wire(cls, wire: dict[str, Any]) -> Fault:
        """The fault that `to_wire` described; an unknown kind (a newer peer) becomes BUG."""
        try:
            kind = Kind(wire.get("kind", ""))
        except ValueError:
            kind = Kind.BUG
        return cls(
            kind,
            str(wire.get("message", "unknown fault")),
            hint=str(wire.get("hint", "")),
            inside=str(wire.get("inside", "")),
            code=str(wire.get("code", "")),
            data=wire.get("data") or {},
        )

    @classmethod
    def wrap(cls, error: BaseException) -> Fault:
        """`error` itself when it is a Fault, else a BUG whose inside text names it; the user text stays vague."""
        if isinstance(error, Fault):
            return error
        return bug(f"{type(error).__name__}: {error}")


def not_found(noun: str, name: str, *, inside: str = "", code: str = "") -> Fault:
    """`noun` called or numbered `name` does not exist, or may not be seen by this caller."""
    return Fault(Kind.NOT_FOUND, f"{noun} {name} could not be found.", inside=inside, code=code)


def exists(message: str, *, hint: str = "", code: str = "") -> Fault:
    """Something of that name or key is there already."""
    return Fault(Kind.EXISTS, message, hint=hint, code=code)


def invalid(message: str, *, hint: str = "", code: str = "", inside: str = "") -> Fault:
    """The request is malformed or asks for what cannot be: say what, and where."""
    return Fault(Kind.INVALID, message, hint=hint, code=code, inside=inside)


def conflict(
    message: str, *, hint: str = "", code: str = "", inside: str = "", data: dict[str, Any] | None = None
) -> Fault:
    """The request is fine but the present state forbids it: name the state."""
    return Fault(Kind.CONFLICT, message, hint=hint, code=code, inside=inside, data=data)


def forbidden(message: str, *, hint: str = "", code: str = "") -> Fault:
    """The caller is known and may not do this."""
    return Fault(Kind.FORBIDDEN, message, hint=hint, code=code)


def unauthenticated(message: str = _NOT_KNOWN, *, inside: str = "") -> Fault:
    """Nobody knows who the caller is. What was wrong stands in `inside` only: the answer is the same for all of it."""
    hint = "Log in again, with the right user, domain and password." if message == _NOT_KNOWN else ""
    return Fault(Kind.UNAUTHENTICATED, message, hint=hint, inside=inside)


def no_capacity(message: str, *, hint: str = "", inside: str = "", data: dict[str, Any] | None = None) -> Fault:
    """No host, backend or address is left that fits."""
    return Fault(Kind.NO_CAPACITY, message, hint=hint, inside=inside, data=data)


def over_quota(resource: str, *, wanted: int, used: int, limit: int) -> Fault:
    """The project's quota for `resource` would be passed."""
    return Fault(
        Kind.OVER_QUOTA,
        f"Quota exceeded for {resource}: Requested {wanted}, but already used {used} of {limit} {resource}.",
        hint="Delete what you do not need, or ask the operator for a larger quota.",
        code="OverQuota",
        data={"resource": resource, "wanted": wanted, "used": used, "limit": limit},
    )


def too_large(message: str, *, hint: str = "") -> Fault:
    """The body, name or list is larger than allowed."""
    return Fault(Kind.TOO_LARGE, message, hint=hint)


def busy(message: str, *, hint: str = "Try again in a moment.", inside: str = "") -> Fault:
    """Overloaded or rate-limited: the same request may work later."""
    return Fault(Kind.BUSY, message, hint=hint, inside=inside)


def unavailable(message: str, *, hint: str = "", inside: str = "") -> Fault:
    """A part the request needs (a service, a host, the broker) does not answer now."""
    return Fault(Kind.UNAVAILABLE, message, hint=hint, inside=inside)


def bug(inside: str) -> Fault:
    """Our own mistake; the user learns only that, the log learns `inside`."""
    return Fault(
        Kind.BUG,
        "An unexpected error prevented the server from fulfilling your request.",
        hint="The operator finds the reason in the log under this request's id.",
        inside=inside,
    )
