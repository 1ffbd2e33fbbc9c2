"""Receipts: what a user of several factors gets for the first of them, to bring along with the next.

A receipt is no token: it opens nothing, lives a few minutes, and dies with what revokes its user's tokens.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import Connection

from kilonova.base.clock import iso_micros_z
from kilonova.base.faults import unauthenticated
from kilonova.http.request import Answer
from kilonova.identity.contract import UserRef
from kilonova.identity.token.delegated import new_audit_id
from kilonova.identity.token.payload import Payload, pack, unpack
from kilonova.identity.token.revocation_store import is_revoked
from kilonova.identity.token.scoping import Proof
from kilonova.identity.token.worth_store import read_user
from kilonova.identity.user import compliance

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService

HEADER = "Openstack-Auth-Receipt"
_MARK = "receipt"  # stands where a token has the number of its version: neither passes for the other


async def offer(service: IdentityService, proof: Proof) -> Answer:
    """401 with a receipt for what was proven so far, and the methods that would be enough."""
    user = await service.db.read(read_user, proof.user_id)
    if user is None:
        raise unauthenticated(inside="the user or its domain is disabled")
    now = service.world.clock.now()
    expires_at = now + timedelta(seconds=service.settings.receipt_lifetime_seconds)
    methods = tuple(sorted(proof.methods))
    payload = Payload(proof.user_id, "", "", methods, now, expires_at, (new_audit_id(service),))
    signed = await service.keys.sign(msgspec.msgpack.encode([_MARK, pack(payload)]))
    shown = {
        "methods": list(methods),
        "user": {"id": user.id, "name": user.name, "domain": user.domain},
        "issued_at": iso_micros_z(now),
        "expires_at": iso_micros_z(expires_at),
    }
    body = {"receipt": shown, "required_auth_methods": compliance.factor_rules(proof.options)}
    return Answer(body, 401, {HEADER: signed, "Vary": "X-Auth-Token", "WWW-Authenticate": "Keystone"})


async def methods_of(service: IdentityService, receipt: str, user_id: str) -> set[str]:
    """The methods that a receipt of this user stands for. UNAUTHENTICATED when it is not good, or another's."""
    kind, raw = _parts(await service.keys.open(receipt))
    payload = unpack(raw) if kind == _MARK else None
    if payload is None or payload.user_id != user_id or payload.expires_at <= service.world.clock.now():
        raise unauthenticated(inside="no receipt, one that has expired, or one of another user")
    if await service.db.read(_holder, payload) is None:
        raise unauthenticated(inside="the receipt is revoked")
    return set(payload.methods)


def _parts(raw: bytes) -> tuple[object, bytes]:
    values = msgspec.msgpack.decode(raw)
    return (values[0], values[1]) if len(values) == 2 else ("", b"")


def _holder(connection: Connection, payload: Payload) -> UserRef | None:
    user = read_user(connection, payload.user_id)
    if user is None or is_revoked(connection, payload, {user.id}, {user.domain.id}):
        return None
    return user
