"""SQL that answers what a token is worth now: its user, its scope, and the roles that the user has there."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection

from kilonova.identity.federation import store as federation_store
from kilonova.identity.token import delegation_store
from kilonova.identity.token.holder_store import read_holder
from kilonova.identity.token.payload import Payload
from kilonova.identity.token.revocation_store import is_revoked
from kilonova.identity.token.roles_store import RoleGraph
from kilonova.identity.token.worth_store import Worth


def read_worth(connection: Connection, payload: Payload, graph: RoleGraph) -> Worth | None:
    """What the token's user may do where it says; None when nothing: it is revoked, or the user, the scope or one of
    their domains is gone or disabled."""
    holder = read_holder(connection, payload)
    if holder is None or holder.is_revoked:
        return None
    worth: Worth | None = holder.worth
    if holder.is_federated and "password" not in payload.methods:
        worth = _federated(connection, holder.worth)
    if worth is not None and payload.trust_id:
        worth = delegation_store.by_trust(connection, worth, payload, graph)
        return None if worth is None or is_revoked(connection, payload, worth.user_ids, worth.domain_ids) else worth
    if worth is not None and payload.scope:
        worth = msgspec.structs.replace(worth, roles=graph.refs(holder.given))
    if worth is not None and payload.access_token_id:
        worth = delegation_store.by_access_token(connection, worth, payload.access_token_id, graph)
    if worth is not None and payload.application_credential_id:
        worth = delegation_store.by_credential(connection, worth, payload.application_credential_id, graph)
    return worth if worth is not None and (worth.roles or not payload.scope) else None


def _federated(connection: Connection, worth: Worth) -> Worth | None:
    """With where its user came from; None when the provider vouches for nobody any more."""
    came = federation_store.federation_of(connection, worth.user.id)
    if came is None:
        return None
    return msgspec.structs.replace(worth, user=msgspec.structs.replace(worth.user, federation=came))
