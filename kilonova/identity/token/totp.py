"""One-time passcodes (RFC 6238: SHA-1, six digits, 30 seconds) from credentials of type `totp`.

A passcode is good once: the step of time that it was made for is written down with the credential.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from datetime import datetime
from typing import TYPE_CHECKING

from kilonova.base.faults import invalid, unauthenticated
from kilonova.identity.credential import blob as blobs
from kilonova.identity.credential import store as credential_store
from kilonova.identity.credential.store import Credential
from kilonova.identity.token import login_store
from kilonova.identity.token.bodies import DomainName, TotpUser
from kilonova.identity.token.scoping import Proof
from kilonova.identity.user import compliance

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService

TOTP = "totp"
STEP_SECONDS = 30
_DIGITS = 6


def secret_of(blob: str) -> bytes:
    """The secret that a credential's blob holds: base32, with or without padding. INVALID when it is none."""
    text = blob.replace(" ", "").rstrip("=").upper()
    try:
        secret = base64.b32decode(text + "=" * (-len(text) % 8))
    except (binascii.Error, ValueError):
        secret = b""
    if not secret:
        raise invalid("Invalid blob in credential: the secret of a totp credential is written in base32.")
    return secret


def passcode(secret: bytes, step: int) -> str:
    """The passcode of one step of time (seconds since 1970, divided by 30)."""
    digest = hmac.digest(secret, step.to_bytes(8, "big"), "sha1")
    at = digest[-1] & 0x0F
    number = int.from_bytes(digest[at : at + 4], "big") & 0x7FFF_FFFF
    return str(number % 10**_DIGITS).zfill(_DIGITS)


def step_of(secret: bytes, given: str, now: datetime, earlier: int) -> int | None:
    """The step whose passcode this is: the present one, or one of the `earlier` before it."""
    present = int(now.timestamp()) // STEP_SECONDS
    fitting = None
    for step in range(present, present - earlier - 1, -1):
        if hmac.compare_digest(passcode(secret, step).encode(), given.encode()):
            fitting = step
    return fitting


async def prove(service: IdentityService, asked: TotpUser) -> Proof:
    """The user whose passcode it is. UNAUTHENTICATED for a wrong one, and for one that was used before."""
    if not asked.id and not (asked.name and asked.domain):
        raise invalid("Invalid input for field auth.identity.totp.user: give id, or name and domain.")
    domain = asked.domain or DomainName()
    known = await service.db.read(login_store.find_user, asked.id, asked.name, domain.id, domain.name)
    found = await service.db.read(credential_store.listed, known.id if known else "-", TOTP)
    fitting = _fitting(service, found, asked.passcode)
    admitted = await compliance.admit(service, known, fitting is not None, forget=False)
    if known is None or fitting is None or not admitted or not known.enabled:
        raise unauthenticated(inside="unknown, disabled or locked user, or wrong passcode")
    if not await service.db.write(credential_store.use_step, *fitting):
        raise unauthenticated(inside="the passcode was used before")
    return Proof(
        known.id, {TOTP}, known.default_project_id or "", options=known.options, failed=known.failed_logins > 0
    )


def _fitting(service: IdentityService, found: list[Credential], given: str) -> tuple[str, int] | None:
    """(id of the credential, step) that the passcode is of."""
    now, earlier = service.world.clock.now(), service.settings.totp_earlier_passcodes
    for one in found:
        step = step_of(secret_of(blobs.blob_of(service, one)), given[:64], now, earlier)
        if step is not None:
            return one.id, step
    return None
