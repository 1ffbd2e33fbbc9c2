"""Tokens that speak with delegated rights: what they are made of, and what their holders may not do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from kilonova.base.faults import Fault, Kind, forbidden, unauthenticated
from kilonova.identity import store
from kilonova.identity.application_credential.store import ApplicationCredential
from kilonova.identity.oauth1 import store as oauth_store
from kilonova.identity.schema import application_credentials
from kilonova.identity.token.payload import Payload
from kilonova.identity.token.validate import Validated
from kilonova.identity.trust import store as trust_store
from kilonova.trace import spans

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService

LIMITS = ("trust_id", "app_cred_id", "access_token_id")  # what keys made with delegated rights name in their blob


def new_audit_id(service: IdentityService) -> str:
    """The name of a new token in records of who did what."""
    made = service.world.ids.secret(16)
    spans.note("token issued", resource=made)  # by it, a trace finds the login that its token came from
    return made


async def delegated_login(
    service: IdentityService, user_id: str, project_id: str, limits: Mapping[str, str]
) -> Payload:
    """The token to issue for keys that belong to a user, limited to what they name: see `blob.delegations`."""
    trust_id, credential_id, access_token_id = (limits.get(name, "") for name in LIMITS)
    issued_at, expires_at = service.tokens.lifetime()
    if trust_id:
        trust = await service.db.read(trust_store.get, trust_id)
        if trust is None or trust.has_passed(issued_at) or trust.project_id != project_id:
            raise unauthenticated(inside="the trust that the keys were made with is gone")
        await use_trust(service, trust_id)
        user_id = trust.trustor_user_id if trust.impersonation else trust.trustee_user_id
        expires_at = min(expires_at, trust.expires_at or expires_at)
    if credential_id:
        found = await service.db.read(store.get, application_credentials, ApplicationCredential, credential_id)
        if found is None or found.project_id != project_id:
            raise unauthenticated(inside="the application credential that the keys were made with is gone")
        expires_at = min(expires_at, found.expires_at or expires_at)
    if access_token_id:
        lent = await service.db.read(oauth_store.find_access, access_token_id)
        if lent is None or lent.project_id != project_id:
            raise unauthenticated(inside="the access token that the keys were made with is gone")
        expires_at = min(expires_at, lent.expires_at)
    audit = (new_audit_id(service),)
    methods, by = ("ec2credential",), (credential_id, trust_id, access_token_id)
    return Payload(user_id, "project", project_id, methods, issued_at, expires_at, audit, *by)


async def use_trust(service: IdentityService, trust_id: str) -> None:
    """Count one use of a trust; FORBIDDEN when none was left."""
    if not await service.db.write(trust_store.use, trust_id):
        raise Fault(Kind.FORBIDDEN, f"No remaining uses for trust {trust_id}.")


def may_manage_credentials(validated: Validated) -> None:
    """FORBIDDEN when the token was got with an application credential that is restricted."""
    credential = validated.info.application_credential
    if credential and credential.restricted:
        raise forbidden(
            "A restricted application credential may not manage credentials or trusts.",
            hint="Use a password, or a credential made with unrestricted=true.",
        )


def must_not_be_delegated(validated: Validated, what: str) -> None:
    """FORBIDDEN when the token speaks with rights that somebody delegated: they must not become lasting ones."""
    if validated.payload.trust_id or validated.payload.access_token_id:
        raise forbidden(f"A token that was lent cannot be used to {what}.", hint="Log in as yourself.")
