"""Tokens: made for a user and a scope, and told what they are worth now. Nothing of a token is stored.

A token carries who, where and until when; roles, names and the catalog are looked up when it is validated, so a role
taken away is gone from tokens in use. What was found is remembered until `token_version` goes up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import Connection

from kilonova.base.caller import Caller
from kilonova.base.clock import iso_micros_z
from kilonova.base.faults import unauthenticated
from kilonova.base.world import World
from kilonova.db.database import Database
from kilonova.identity import store
from kilonova.identity.callers import SERVICE_ROLE, beside_service, caller_of
from kilonova.identity.catalog.document import catalog_for
from kilonova.identity.catalog.store import Templates, read_templates
from kilonova.identity.contract import CatalogService, TokenBody, TokenInfo
from kilonova.identity.endpoint_filter.store import endpoints_of
from kilonova.identity.lru import Lru
from kilonova.identity.settings import IdentitySettings
from kilonova.identity.token import authorization_store
from kilonova.identity.token.holder_store import read_holder
from kilonova.identity.token.keys import KeyRing
from kilonova.identity.token.payload import Payload, pack, unpack
from kilonova.identity.token.roles_store import RoleGraph, read_graph
from kilonova.identity.token.worth_store import Worth

_encode = msgspec.json.Encoder().encode


class Validated(msgspec.Struct):
    """A token that was good when it was looked at. `full` and `short` are its JSON with and without the catalog.

    `version`: how much of all changes is in it at least; more than that must not be promised of it.
    """

    payload: Payload
    info: TokenInfo
    caller: Caller
    full: bytes
    short: bytes
    version: int


class _Common(msgspec.Struct, frozen=True):
    """What is the same for all tokens of a version: the catalog's templates, and what roles imply."""

    templates: Templates
    graph: RoleGraph


_Read = tuple[Worth | None, _Common, list[CatalogService]]


class Tokens:
    """Issues and validates."""

    def __init__(self, world: World, db: Database, keys: KeyRing, settings: IdentitySettings) -> None:
        self._world = world
        self._db = db
        self._keys = keys
        self._settings = settings
        self._known: Lru[bytes, Validated] = Lru(settings.token_cache_size)
        self._version = -1
        self._checked_at = float("-inf")
        self._changes = 0
        self._common: _Common | None = None

    def forget(self) -> None:
        """This process changed what tokens may be worth: look at the version before the next answer."""
        self._checked_at = float("-inf")
        self._changes += 1

    async def version(self) -> int:
        """The version of all that tokens depend on; knowledge of it is at most `revocation_poll_seconds` old."""
        now = self._world.clock.monotonic()
        if now - self._checked_at >= self._settings.revocation_poll_seconds:
            changes = self._changes
            version = await self._db.read(store.read_version)
            if changes == self._changes:  # else the read may be older than our own change
                self._checked_at = now
            if version != self._version:
                self._known.clear()
                self._common = None
                self._keys.forget()
                self._version = version
        return self._version

    async def issue(self, payload: Payload) -> tuple[str, Validated]:
        """A token for `payload`; UNAUTHENTICATED when its user may do nothing there."""
        version = await self.version()
        token = await self._keys.sign(pack(payload))
        made = await self._look(token, payload, version)
        if version == self._version:
            self._known.put(_key(token), made)
        return token, made

    def lifetime(self) -> tuple[datetime, datetime]:
        """(issued, expires) of a token made now."""
        now = self._world.clock.now()
        return now, now + timedelta(seconds=self._settings.token_lifetime_seconds)

    async def validate(self, token: str, *, allow_expired: bool = False) -> Validated:
        """What the token is worth now. UNAUTHENTICATED when forged, expired, revoked, or its user or scope is gone.

        `allow_expired` accepts it for `expired_token_grace_seconds` longer.
        """
        if not token:
            raise unauthenticated()
        version = await self.version()
        key = _key(token)
        known = self._known.get(key)
        payload = known.payload if known else unpack(await self._keys.open(token))
        if payload is None:
            raise unauthenticated(inside="the token is of an unknown version")
        self._in_time(payload, allow_expired)
        if known is None:
            known = await self._look(token, payload, version)
            if version == self._version:
                self._known.put(key, known)
        return known

    def _in_time(self, payload: Payload, allow_expired: bool) -> None:
        grace = self._settings.expired_token_grace_seconds if allow_expired else 0
        if self._world.clock.now() >= payload.expires_at + timedelta(seconds=grace):
            raise unauthenticated(inside="the token has expired")

    async def _look(self, token: str, payload: Payload, version: int) -> Validated:
        worth, common, catalog = await self._read(payload)
        if version == self._version:
            self._common = common
        if worth is None:
            raise unauthenticated(inside="the token is revoked, or its user, scope or last role is gone")
        if worth.delegated_until is not None and worth.delegated_until <= self._world.clock.now():
            raise unauthenticated(inside="the application credential or trust has expired")
        info = describe(payload, worth, catalog)
        if common.templates.providers:
            info = msgspec.structs.replace(info, service_providers=common.templates.providers)
        short = msgspec.structs.replace(info, catalog=UNSET)
        caller = caller_of(info, token)
        return Validated(payload, info, caller, _encode(TokenBody(info)), _encode(TokenBody(short)), version)

    async def _read(self, payload: Payload) -> _Read:
        """What the token is worth: for most by one statement, when what is common to all is known."""
        common = self._common
        if common is not None and not (common.templates.is_filtered and payload.scope == "project"):
            holder = await self._db.read(read_holder, payload)
            worth = authorization_store.told_by(holder, payload, common.graph)
            if not isinstance(worth, UnsetType):
                return worth, common, common.templates.services if worth is not None and payload.scope else []
        return await self._db.read(_read_all, payload, common)


def _key(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _read_all(connection: Connection, payload: Payload, common: _Common | None) -> _Read:
    """What the token is worth, and its catalog; what is common to all tokens is read once."""
    common = common or _Common(read_templates(connection), read_graph(connection))
    worth = authorization_store.read_worth(connection, payload, common.graph)
    if worth is None or not payload.scope:
        return worth, common, []
    only: set[str] = set()
    if common.templates.is_filtered and payload.scope == "project":
        only = {one.id for one in endpoints_of(connection, payload.scope_id)}
    services = common.templates.services
    return worth, common, [kept for service in services if (kept := _limited(service, only)).endpoints]


def _limited(service: CatalogService, only: set[str]) -> CatalogService:
    if not only:
        return service
    kept = [endpoint for endpoint in service.endpoints if endpoint.id in only]
    return msgspec.structs.replace(service, endpoints=kept)


def describe(payload: Payload, worth: Worth, catalog: list[CatalogService]) -> TokenInfo:
    """The token as the Identity API shows it."""
    return TokenInfo(
        methods=list(payload.methods),
        user=worth.user,
        audit_ids=list(payload.audit_ids),
        expires_at=iso_micros_z(payload.expires_at),
        issued_at=iso_micros_z(payload.issued_at),
        project=worth.project or UNSET,
        is_domain=False if worth.project else UNSET,
        domain=worth.domain or UNSET,
        system={"all": True} if payload.scope == "system" else UNSET,
        roles=list(worth.roles) if payload.scope else UNSET,
        catalog=catalog_for(catalog, worth.project.id if worth.project else "") if payload.scope else UNSET,
        application_credential=worth.credential or UNSET,
        trust=worth.trust or UNSET,
        oauth=worth.oauth or UNSET,
    )


class LocalAuthenticator:
    """The Authenticator of identity's own door: the same rules as everywhere, without a hop."""

    def __init__(self, tokens: Callable[[], Tokens]) -> None:
        self._tokens = tokens

    async def authenticate(self, token: str, service_token: str) -> Caller:
        """The token's holder; an expired token counts beside a service's."""
        tokens = self._tokens()
        service = (await tokens.validate(service_token)).caller if service_token else None
        speaks = service is not None and SERVICE_ROLE in service.roles
        known = await tokens.validate(token, allow_expired=speaks)
        return beside_service(known.caller, service)
