"""SQL that answers what a token is worth now: its user, its scope, and the roles that the user has there."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection

from kilonova.identity.contract import UserRef
from kilonova.identity.federation import store as federation_store
from kilonova.identity.token import delegation_store
from kilonova.identity.token.payload import Payload
from kilonova.identity.token.roles_store import roles_of
from kilonova.identity.token.worth_store import Worth, read_domain, read_project, read_user


def read_worth(connection: Connection, payload: Payload) -> Worth | None:
    """What the token's user may do where it says; None when nothing: it, the scope or a domain is gone or disabled."""
    scope, scope_id = payload.scope, payload.scope_id
    user = read_user(connection, payload.user_id)
    if user is not None and "password" not in payload.methods and federation_store.is_federated(connection, user.id):
        user = _federated(connection, user)
    if user is None:
        return None
    worth = Worth(user)
    if scope == "project":
        worth = msgspec.structs.replace(worth, project=read_project(connection, scope_id))
    elif scope == "domain":
        worth = msgspec.structs.replace(worth, domain=read_domain(connection, scope_id))
    if (scope == "project" and worth.project is None) or (scope == "domain" and worth.domain is None):
        return None
    if payload.trust_id:
        return delegation_store.by_trust(connection, worth, payload)
    if scope:
        worth = msgspec.structs.replace(worth, roles=roles_of(connection, payload.user_id, scope, scope_id))
    if payload.access_token_id:
        lent = delegation_store.by_access_token(connection, worth, payload.access_token_id)
        if lent is None:
            return None
        worth = lent
    if payload.application_credential_id:
        found = delegation_store.by_credential(connection, worth, payload.application_credential_id)
        if found is None:
            return None
        worth = found
    return worth if worth.roles or not scope else None


def _federated(connection: Connection, user: UserRef) -> UserRef | None:
    """The user with where it came from; None when its provider vouches for nobody any more."""
    came = federation_store.federation_of(connection, user.id)
    return msgspec.structs.replace(user, federation=came) if came else None
