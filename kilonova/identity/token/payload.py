"""What a token carries inside its Fernet envelope: as little as identifies user, scope and lifetime."""

from __future__ import annotations

import binascii
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

ScopeKind = Literal["", "project", "domain", "system"]
SCOPES: tuple[ScopeKind, ...] = ("", "project", "domain", "system")
_METHODS = ("password", "token", "application_credential", "totp", "external", "ec2credential", "oauth1", "mapped")
_VERSION = 1
_HEX = frozenset("0123456789abcdef")


class Payload(msgspec.Struct, frozen=True):
    """A token, opened. `audit_ids`: its own, then that of the token it was made from."""

    user_id: str
    scope: ScopeKind
    scope_id: str
    methods: tuple[str, ...]
    issued_at: datetime
    expires_at: datetime
    audit_ids: tuple[str, ...]
    application_credential_id: str = ""
    trust_id: str = ""
    access_token_id: str = ""


def pack(payload: Payload) -> bytes:
    """The bytes to be encrypted; about 90 of them."""
    bits = sum(1 << _METHODS.index(method) for method in payload.methods)
    return msgspec.msgpack.encode(
        [
            _VERSION,
            _packed_id(payload.user_id),
            SCOPES.index(payload.scope),
            _packed_id(payload.scope_id),
            bits,
            _micros(payload.issued_at),
            _micros(payload.expires_at),
            payload.audit_ids,
            _packed_id(payload.application_credential_id),
            _packed_id(payload.trust_id),
            _packed_id(payload.access_token_id),
        ]
    )


def unpack(raw: bytes) -> Payload | None:
    """What was packed; None when it is of a kind that this release does not know."""
    values: list[Any] = msgspec.msgpack.decode(raw)
    if not values or values[0] != _VERSION:
        return None
    _, user_id, scope, scope_id, bits, issued, expires, audit_ids, credential_id, *more = values
    return Payload(
        _unpacked_id(user_id),
        SCOPES[scope],
        _unpacked_id(scope_id),
        tuple(method for index, method in enumerate(_METHODS) if bits >> index & 1),
        _moment(issued),
        _moment(expires),
        tuple(audit_ids),
        _unpacked_id(credential_id),
        *map(_unpacked_id, more),  # none in tokens of an earlier release
    )


def _packed_id(id_: str) -> str | bytes:
    return binascii.unhexlify(id_) if len(id_) in (32, 64) and _HEX.issuperset(id_) else id_


def _unpacked_id(packed: str | bytes) -> str:
    return packed if isinstance(packed, str) else packed.hex()


def _micros(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)


def _moment(micros: int) -> datetime:
    return datetime.fromtimestamp(micros // 1_000_000, UTC).replace(microsecond=micros % 1_000_000)
