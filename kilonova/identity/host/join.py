"""A host joins: it shows its invitation once, and gets secrets and settings of its own.

The operator invites (`invite`, run by `kilonova host invite` where the database is); the host redeems with
POST /v3/kilonova/hosts. What a host is given beside its service user is not identity's business: `HostAdmission`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from kilonova.base.faults import Fault, Kind, conflict
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.identity.bootstrap import Plan
from kilonova.identity.contract import host_user
from kilonova.identity.host import store
from kilonova.identity.host.store import Invitation, NewPassword
from kilonova.identity.passwords import sha256_hex

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService

PATH = "/v3/kilonova/hosts"
AUTHORITY_PATH = "/v3/kilonova/authority"
LIVES_SECONDS = 3600
KEPT_SECONDS = 7 * 86_400  # after its end, so that the operator's question "who used it?" finds an answer
SECRET_BYTES = 32


class HostAdmission(Protocol):
    """Who knows what a host needs of the broker, of certificates and of settings."""

    async def admit(self, host: str, roles: Sequence[str], password: str, certificate_request: str) -> dict[str, Any]:
        """What the host is to keep, JSON-ready; made anew, so that what it had before is worth nothing."""
        ...

    def authority(self) -> str:
        """The certificate of the authority that this cluster's certificates are of, PEM; "" when it has none."""
        ...


class Join(msgspec.Struct):
    """The body's `host`."""

    invitation: str
    certificate_request: str = ""  # PEM; the key stays on the host

    def __repr__(self) -> str:
        return "Join()"


async def invite(service: IdentityService, host: str, roles: Sequence[str]) -> str:
    """The secret of a new invitation; an older one of that host that nobody used is void."""
    secret = service.world.ids.secret(SECRET_BYTES)
    until = service.world.clock.now() + timedelta(seconds=LIVES_SECONDS)
    await service.db.write(store.invite, Invitation(sha256_hex(secret), host, list(roles), until))
    return secret


async def redeem(service: IdentityService, request: Request[Join]) -> dict[str, Any]:
    """Everything that the invited host is to keep. FORBIDDEN: unknown, used or expired."""
    admission = _admission(service)
    found = await service.db.read(store.find, sha256_hex(request.body.invitation))
    _refuse(found, expired=found is not None and found.expires_at <= service.world.clock.now())
    assert found is not None
    password = service.world.ids.secret()
    await service.change(store.use, found.id, new_password(service, found.host, password), service.world.ids.hex32)
    try:
        kept = await admission.admit(found.host, found.roles, password, request.body.certificate_request)
    except Fault:
        await service.db.write(store.give_back, found.id)
        raise
    return {"host": {"name": found.host, "roles": found.roles, **kept}}


def _refuse(found: Invitation | None, *, expired: bool) -> None:
    again = "Ask the operator for a new one: kilonova host invite NAME."
    if found is None:
        raise Fault(Kind.FORBIDDEN, "This invitation is not known here.", hint=again)
    if found.used_at is not None:
        when = f"{found.used_at:%Y-%m-%d %H:%M} UTC"
        raise Fault(
            Kind.FORBIDDEN,
            f"The invitation for {found.host} was used at {when}; it lets one host join once.",
            hint=f"If that was not you, expel that host (kilonova host expel {found.host}) and invite again.",
        )
    if expired:
        when = f"{found.expires_at:%Y-%m-%d %H:%M} UTC"
        raise Fault(Kind.FORBIDDEN, f"The invitation for {found.host} expired at {when}.", hint=again)


async def admit(service: IdentityService, host: str, roles: Sequence[str]) -> dict[str, Any]:
    """The same without an invitation, for an operator who copies files."""
    password = service.world.ids.secret()
    await service.change(store.set_password, new_password(service, host, password), service.world.ids.hex32)
    return await _admission(service).admit(host, roles, password, "")


async def expel(service: IdentityService, host: str) -> bool:
    """The host's user is gone and its tokens are void within a second; False when there was none."""
    now = service.world.clock.now()
    void = (service.world.ids.hex32(), now, now + _longest(service))
    return await service.change(store.expel, host_user(host), void)


def new_password(service: IdentityService, host: str, password: str) -> NewPassword:
    """What is written when a host's user gets a password."""
    now = service.world.clock.now()
    hashed = service.passwords.hash_machine_secret(password)
    region = Plan("", ()).region
    return NewPassword(host_user(host), hashed, region, service.world.ids.hex32(), now, now + _longest(service))


def _longest(service: IdentityService) -> timedelta:
    settings = service.settings
    return timedelta(seconds=settings.token_lifetime_seconds + settings.expired_token_grace_seconds)


def _admission(service: IdentityService) -> HostAdmission:
    if service.admission is None:
        raise conflict("This cloud takes no hosts: it is one machine's.", hint="docs/guide/cluster.md shows clusters.")
    return service.admission


async def authority(service: IdentityService, request: Request[None]) -> dict[str, str]:
    """The certificate that a joining host compares with the hash in its invitation, before it trusts it."""
    pem = service.admission.authority() if service.admission else ""
    if not pem:
        raise Fault(Kind.NOT_FOUND, "This cloud has no authority of its own.")
    return {"certificate": pem}


async def prune_invitations(service: IdentityService) -> int:
    """Forget invitations a week after their end; how many went."""
    return await service.db.write(store.prune, service.world.clock.now() - timedelta(seconds=KEPT_SECONDS))


ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path=PATH,
        handler=redeem,
        body=Join,
        envelope="host",
        needs_token=False,
        open_because="the invitation's secret is the proof, and works once",
        success=201,
        summary="Join a host to the cluster",
    ),
    Route(
        method="GET",
        path=AUTHORITY_PATH,
        handler=authority,
        needs_token=False,
        open_because="a certificate is public; a host that joins cannot check any other yet",
        summary="The certificate authority of the cluster",
    ),
)
RULES = ()
