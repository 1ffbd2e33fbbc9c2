"""POST /v3/auth/tokens: who is it (password, token, application credential), what for (scope), here is the token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kilonova.base.faults import Fault, Kind, forbidden, invalid, unauthenticated
from kilonova.http.request import Answer, Request
from kilonova.identity.ldap import login as directory_login
from kilonova.identity.oauth1 import access as oauth_access
from kilonova.identity.token import login_store, receipt, scoping, totp
from kilonova.identity.token.bodies import (
    CredentialMethod,
    CredentialUser,
    DomainName,
    Identity,
    Login,
    PasswordUser,
    TokenMethod,
)
from kilonova.identity.token.delegated import new_audit_id, use_trust
from kilonova.identity.token.payload import Payload
from kilonova.identity.token.scoping import Proof, Wanted
from kilonova.identity.token.validate import Validated
from kilonova.identity.user import compliance

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService

METHODS_MAXIMUM = 8  # names in one login; nobody has more ways to prove who it is


async def create(service: IdentityService, request: Request[Login]) -> Answer:
    """A token for who proves to be a user of this cloud."""
    login = request.body
    proof = await _prove(service, request)
    if brought := request.headers.get(receipt.HEADER.lower()):
        proof.methods |= await receipt.methods_of(service, brought, proof.user_id)
    if not compliance.satisfies_factors(proof.options, proof.methods):
        return await receipt.offer(service, proof)
    if proof.failed:
        await service.db.write(login_store.forget_failures, proof.user_id)
    scope = await scoping.choose(service, login.scope, proof)
    token, made = await _issue(service, proof, scope)
    body = made.short if "nocatalog" in request.query else made.full
    return Answer(body, headers={"X-Subject-Token": token, "Vary": "X-Auth-Token"})


async def _issue(service: IdentityService, proof: Proof, scope: Wanted) -> tuple[str, Validated]:
    payload = _payload(service, proof, scope)
    if proof.trust is None:
        return await service.tokens.issue(payload)
    try:
        token, made = await service.tokens.issue(payload)
    except Fault as fault:
        if fault.kind is not Kind.UNAUTHENTICATED:
            raise
        raise forbidden("The trust's roles are not the trustor's any more, or one of its users is disabled.") from None
    await use_trust(service, proof.trust.id)
    return token, made


async def _prove(service: IdentityService, request: Request[Login]) -> Proof:
    identity = request.body.identity
    if not identity.methods or len(identity.methods) > METHODS_MAXIMUM:
        raise invalid(f"Invalid input for field auth.identity.methods: 1 to {METHODS_MAXIMUM} are possible.")
    if "oauth1" in identity.methods:
        if len(identity.methods) > 1:
            raise invalid("Invalid input for field auth.identity.methods: oauth1 goes with no other.")
        return await oauth_access.prove(service, request)
    proofs = [await _by(service, method, identity) for method in dict.fromkeys(identity.methods)]
    first = proofs[0]
    for other in proofs[1:]:
        if other.user_id != first.user_id:
            raise unauthenticated(inside="the methods prove different users")
        first.methods |= other.methods
        first.from_token = first.from_token or other.from_token
        first.credential_id = first.credential_id or other.credential_id
        first.credential_project_id = first.credential_project_id or other.credential_project_id
        first.options = first.options or other.options
        first.default_project_id = first.default_project_id or other.default_project_id
        first.failed = first.failed or other.failed
    return first


async def _by(service: IdentityService, method: str, identity: Identity) -> Proof:
    if method == "password" and identity.password:
        return await _by_password(service, identity.password.user)
    if method == "token" and identity.token:
        return await _by_token(service, identity.token)
    if method == "application_credential" and identity.application_credential:
        return await _by_credential(service, identity.application_credential)
    if method == "totp" and identity.totp:
        return await totp.prove(service, identity.totp.user)
    if method in ("password", "token", "application_credential", "totp"):
        raise invalid(f"Invalid input for field auth.identity: {method!r} is named in methods and missing.")
    raise unauthenticated(inside=f"authentication method {method[:40]!r} is not offered")


async def _by_password(service: IdentityService, asked: PasswordUser) -> Proof:
    if not asked.id and not (asked.name and asked.domain):
        raise invalid("Invalid input for field auth.identity.password.user: give id, or name and domain.")
    service.passwords.check_length(asked.password, "auth.identity.password.user.password")
    if (directory := await service.directories.asked(asked)) is not None:
        return await directory_login.prove(service, directory, asked)
    domain = asked.domain or DomainName()
    known = await service.db.read(login_store.find_user, asked.id, asked.name, domain.id, domain.name)
    right = await service.passwords.matches(asked.password, known.password_hash if known else "")
    admitted = await compliance.admit(service, known, right, forget=False)
    if known is None or not admitted or not known.enabled:
        raise unauthenticated(inside="unknown, disabled or locked user, or wrong password")
    compliance.must_be_current(service, known)
    if service.passwords.outdated(known.password_hash):
        written = await service.passwords.hash(asked.password)
        await service.db.write(login_store.rehash, known.id, known.password_hash, written)
    failed = known.failed_logins > 0
    return Proof(known.id, {"password"}, known.default_project_id or "", options=known.options, failed=failed)


async def _by_token(service: IdentityService, asked: TokenMethod) -> Proof:
    try:
        known = await service.tokens.validate(asked.id)
    except Fault as fault:
        if fault.kind is not Kind.UNAUTHENTICATED:
            raise
        raise Fault(Kind.NOT_FOUND, "Could not find token.", inside=fault.inside) from None
    payload = known.payload
    if payload.trust_id or payload.access_token_id or "ec2credential" in payload.methods:
        raise forbidden(
            "A token that somebody delegated, or that a signature got, cannot be exchanged for another.",
            hint="Log in again instead.",
        )
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
    service.passwords.check_length(asked.secret, "auth.identity.application_credential.secret")
    if asked.id:
        known = await service.db.read(login_store.find_credential, asked.id)
    else:
        user = asked.user or CredentialUser()
        domain = user.domain or DomainName()
        whose = login_store.WhoseCredential(user.id, user.name, domain.id, domain.name)
        known = await service.db.read(login_store.find_named_credential, asked.name, whose)
    right = await service.passwords.matches(asked.secret, known.secret_hash if known else "")
    if known is None or not right:
        raise unauthenticated(inside="unknown application credential, or wrong secret")
    return Proof(
        known.user_id,
        {"application_credential"},
        credential_id=known.id,
        credential_project_id=known.project_id,
    )


def _payload(service: IdentityService, proof: Proof, wanted: Wanted) -> Payload:
    issued_at, expires_at = service.tokens.lifetime()
    audit_ids: tuple[str, ...] = (new_audit_id(service),)
    if proof.from_token is not None:
        earlier = proof.from_token.payload
        expires_at = min(expires_at, earlier.expires_at)  # a token must not renew itself for ever
        audit_ids = (*audit_ids, earlier.audit_ids[-1])
    if proof.trust is not None:
        expires_at = min(expires_at, proof.trust.expires_at or expires_at)
    if proof.access_token is not None:
        expires_at = min(expires_at, proof.access_token.expires_at)
    return Payload(
        proof.user_id,
        *wanted,
        tuple(sorted(proof.methods)),
        issued_at,
        expires_at,
        audit_ids,
        proof.credential_id,
        proof.trust.id if proof.trust else "",
        proof.access_token.id if proof.access_token else "",
    )
