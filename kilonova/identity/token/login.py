"""POST /v3/auth/tokens: who is it (password, token, application credential), what for (scope), here is the token."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, UnsetType

from kilonova.base.faults import forbidden, invalid, unauthenticated
from kilonova.http.request import Answer, Request
from kilonova.identity.token import login_store
from kilonova.identity.token.payload import Payload, ScopeKind
from kilonova.identity.token.validate import Validated
from kilonova.trace import spans

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService


class DomainName(msgspec.Struct):
    """A domain by id or name."""

    id: str = ""
    name: str = ""


class ProjectName(msgspec.Struct):
    """A project by id, or by name and domain."""

    id: str = ""
    name: str = ""
    domain: DomainName | None = None


class PasswordUser(msgspec.Struct):
    """A user by id, or by name and domain, and its password."""

    password: str
    id: str = ""
    name: str = ""
    domain: DomainName | None = None


class PasswordMethod(msgspec.Struct):
    """`password` of an identity."""

    user: PasswordUser


class TokenMethod(msgspec.Struct):
    """`token` of an identity."""

    id: str


class CredentialUser(msgspec.Struct):
    """Whose application credential it is, when it is named."""

    id: str = ""
    name: str = ""
    domain: DomainName | None = None


class CredentialMethod(msgspec.Struct):
    """`application_credential` of an identity: by id, or by name and user."""

    secret: str
    id: str = ""
    name: str = ""
    user: CredentialUser | None = None


class Identity(msgspec.Struct):
    """How the client proves who it is."""

    methods: list[str]
    password: PasswordMethod | None = None
    token: TokenMethod | None = None
    application_credential: CredentialMethod | None = None


class Scope(msgspec.Struct):
    """What the token shall be good for. Exactly one."""

    project: ProjectName | None = None
    domain: DomainName | None = None
    system: dict[str, bool] | None = None
    unscoped: dict[str, Any] | None = None


class Login(msgspec.Struct):
    """The body's `auth`."""

    identity: Identity
    scope: Scope | str | UnsetType = UNSET


class Proof(msgspec.Struct):
    """Who it is, proven, and what that leaves to be chosen."""

    user_id: str
    methods: set[str]
    default_project_id: str = ""
    from_token: Validated | None = None
    credential_id: str = ""
    credential_project_id: str = ""


async def create(service: IdentityService, request: Request[Login]) -> Answer:
    """A token for who proves to be a user of this cloud."""
    login = request.body
    if not login.identity.methods:
        raise invalid("Invalid input for field auth.identity.methods: at least one is needed.")
    proof = await _prove(service, login.identity)
    scope, scope_id = await _scope(service, login.scope, proof)
    token, made = await service.tokens.issue(_payload(service, proof, scope, scope_id))
    body = made.short if "nocatalog" in request.query else made.full
    return Answer(body, headers={"X-Subject-Token": token, "Vary": "X-Auth-Token"})


async def _prove(service: IdentityService, identity: Identity) -> Proof:
    proofs = []
    for method in dict.fromkeys(identity.methods):
        if method == "password" and identity.password:
            proofs.append(await _by_password(service, identity.password.user))
        elif method == "token" and identity.token:
            proofs.append(await _by_token(service, identity.token.id))
        elif method == "application_credential" and identity.application_credential:
            proofs.append(await _by_credential(service, identity.application_credential))
        elif method in ("password", "token", "application_credential"):
            raise invalid(f"Invalid input for field auth.identity: {method!r} is named in methods and missing.")
        else:
            raise unauthenticated(inside=f"authentication method {method[:40]!r} is not offered")
    first = proofs[0]
    for other in proofs[1:]:
        if other.user_id != first.user_id:
            raise unauthenticated(inside="the methods prove different users")
        first.methods |= other.methods
        first.from_token = first.from_token or other.from_token
        first.credential_id = first.credential_id or other.credential_id
        first.credential_project_id = first.credential_project_id or other.credential_project_id
    return first


async def _by_password(service: IdentityService, asked: PasswordUser) -> Proof:
    if not asked.id and not (asked.name and asked.domain):
        raise invalid("Invalid input for field auth.identity.password.user: give id, or name and domain.")
    domain = asked.domain or DomainName()
    known = await service.db.read(login_store.find_user, asked.id, asked.name, domain.id, domain.name)
    right = await service.passwords.matches(asked.password, known.password_hash if known else "")
    if known is None or not right or not known.enabled:
        raise unauthenticated(inside="unknown or disabled user, or wrong password")
    if service.passwords.outdated(known.password_hash):
        written = await service.passwords.hash(asked.password)
        await service.db.write(login_store.rehash, known.id, known.password_hash, written)
    return Proof(known.id, {"password"}, known.default_project_id or "")


async def _by_token(service: IdentityService, token: str) -> Proof:
    known = await service.tokens.validate(token)
    payload = known.payload
    return Proof(
        payload.user_id,
        {*payload.methods, "token"},
        from_token=known,
        credential_id=payload.application_credential_id,
        credential_project_id=payload.scope_id if payload.application_credential_id else "",
    )


async def _by_credential(service: IdentityService, asked: CredentialMethod) -> Proof:
    if not asked.id and not (asked.name and asked.user and (asked.user.id or asked.user.name)):
        raise invalid("Invalid input for field auth.identity.application_credential: give id, or name and user.")
    user = asked.user or CredentialUser()
    domain = user.domain or DomainName()
    known = await service.db.read(
        login_store.find_credential,
        asked.id,
        asked.name,
        login_store.WhoseCredential(user.id, user.name, domain.id, domain.name),
    )
    right = await service.passwords.matches(asked.secret, known.secret_hash if known else "")
    if known is None or not right:
        raise unauthenticated(inside="unknown application credential, or wrong secret")
    return Proof(
        known.user_id,
        {"application_credential"},
        credential_id=known.id,
        credential_project_id=known.project_id,
    )


async def _scope(service: IdentityService, asked: Scope | str | UnsetType, proof: Proof) -> tuple[ScopeKind, str]:
    """The scope that was asked for, by id. One that does not exist looks like one without a role there."""
    if proof.credential_id:
        return _credentials_scope(asked, proof)
    if asked is UNSET:
        return await _default_scope(service, proof)
    if isinstance(asked, str):
        if asked != "unscoped":
            raise invalid("Invalid input for field auth.scope: it is an object, or the word 'unscoped'.")
        return "", ""
    given = [kind for kind in ("project", "domain", "system", "unscoped") if getattr(asked, kind) is not None]
    if len(given) != 1:
        raise invalid("Invalid input for field auth.scope: give exactly one of project, domain, system, unscoped.")
    if asked.project:
        domain = asked.project.domain or DomainName()
        if not asked.project.id and not (asked.project.name and (domain.id or domain.name)):
            raise invalid("Invalid input for field auth.scope.project: give id, or name and domain.")
        found = await service.db.read(
            login_store.find_project, asked.project.id, asked.project.name, domain.id, domain.name
        )
        return "project", found
    if asked.domain:
        if not asked.domain.id and not asked.domain.name:
            raise invalid("Invalid input for field auth.scope.domain: give id or name.")
        return "domain", await service.db.read(login_store.find_domain, asked.domain.id, asked.domain.name)
    if asked.system is not None:
        if asked.system.get("all") is not True:
            raise invalid("Invalid input for field auth.scope.system: only {'all': true} is known.")
        return "system", "all"
    return "", ""


def _credentials_scope(asked: Scope | str | UnsetType, proof: Proof) -> tuple[ScopeKind, str]:
    """An application credential is good for its own project only."""
    if asked is not UNSET:
        same = isinstance(asked, Scope) and asked.project and asked.project.id == proof.credential_project_id
        if proof.from_token is None or not same:
            raise unauthenticated(inside="an application credential cannot ask for a scope")
    return "project", proof.credential_project_id


async def _default_scope(service: IdentityService, proof: Proof) -> tuple[ScopeKind, str]:
    """The user's default project when it has a role there; a token keeps none."""
    if not proof.default_project_id or proof.from_token is not None:
        return "", ""
    usable = await service.db.read(login_store.is_usable, proof.user_id, proof.default_project_id)
    return ("project", proof.default_project_id) if usable else ("", "")


def _payload(service: IdentityService, proof: Proof, scope: ScopeKind, scope_id: str) -> Payload:
    issued_at, expires_at = service.tokens.lifetime()
    audit_ids: tuple[str, ...] = (service.world.ids.secret(16),)
    if proof.from_token is not None:
        earlier = proof.from_token.payload
        expires_at = min(expires_at, earlier.expires_at)  # a token must not renew itself for ever
        audit_ids = (*audit_ids, earlier.audit_ids[-1])
    spans.note("token issued", resource=audit_ids[0])  # by it, a trace finds the login that its token came from
    return Payload(
        proof.user_id,
        scope,
        scope_id,
        tuple(sorted(proof.methods)),
        issued_at,
        expires_at,
        audit_ids,
        proof.credential_id,
    )


def may_manage_credentials(validated: Validated) -> None:
    """FORBIDDEN when the token was got with an application credential that is restricted."""
    credential = validated.info.application_credential
    if credential and credential.restricted:
        raise forbidden(
            "A restricted application credential may not manage application credentials.",
            hint="Use a password, or a credential made with unrestricted=true.",
        )


def moment_of(text: str, field: str) -> datetime:
    """The moment a client wrote in ISO 8601; without zone it is UTC."""
    from datetime import UTC

    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise invalid(f"Invalid input for field {field}: {text[:60]!r} is not an ISO 8601 time.") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
