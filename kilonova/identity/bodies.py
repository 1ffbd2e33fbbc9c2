"""Bodies whose unknown keys are kept: Identity shows back what it was given (email, description, …)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET

from kilonova.base.faults import invalid
from kilonova.http.schema import convert
from kilonova.http.versions import NONE

S = TypeVar("S", bound=msgspec.Struct)
EXTRA_BYTES = 16_384


def with_extra(body: dict[str, Any], struct: type[S], where: str) -> tuple[S, dict[str, Any]]:
    """(the known keys as `struct`, all other keys)."""
    made = convert(body, struct, NONE, where)
    known = {field.encode_name for field in msgspec.structs.fields(struct)}
    extra = {key: value for key, value in body.items() if key not in known and key not in ("id", "links")}
    if len(msgspec.json.encode(extra)) > EXTRA_BYTES:
        raise invalid(f"Invalid input for {where}: more than {EXTRA_BYTES} bytes of keys that are not known.")
    return made, extra


def given(body: msgspec.Struct) -> dict[str, Any]:
    """The fields of an update that the client sent."""
    return {key: value for key, value in msgspec.structs.asdict(body).items() if value is not UNSET}


def moment_of(text: str, field: str) -> datetime:
    """The moment a client wrote in ISO 8601; without zone it is UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise invalid(f"Invalid input for field {field}: {text[:60]!r} is not an ISO 8601 time.") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
