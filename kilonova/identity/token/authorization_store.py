"""SQL that answers what a token is worth now: its user, its scope, and the roles that the user has there."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import Connection

from kilonova.identity.federation import store as federation_store
from kilonova.identity.token import delegation_store
from kilonova.identity.token.holder_store import Holder, read_holder
from kilonova.identity.token.payload import Payload
from kilonova.identity.token.revocation_store import is_revoked
from kilonova.identity.token.roles_store import RoleGraph
from kilonova.identity.token.worth_store import Worth


def read_worth(connection: Connection, payload: Payload, graph: RoleGraph) -> Worth | None:
    """What the token's user may do where it says; None when nothing: it is revoked, or the user, the scope or one of
    their domains is gone or disabled."""
    holder = read_holder(connection, payload)
    told = told_by(holder, payload, graph)
    if not isinstance(told, UnsetType):
        return told
    assert holder is not None
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
    if worth is not None and (lent := holder.credential) is not None:
        rules = delegation_store.rules_of(connection, lent.access_rule_ids) if lent.access_rule_ids else UNSET
        worth = delegation_store.by_credential(worth, lent, graph, rules)
    return worth if worth is not None and (worth.roles or not payload.scope) else None


def told_by(holder: Holder | None, payload: Payload, graph: RoleGraph) -> Worth | UnsetType | None:
    """What `read_worth` says, when the holder alone tells it, as of most tokens; UNSET when more has to be read."""
    if holder is None or holder.is_revoked:
        return None
    lent = holder.credential
    vouched_for = holder.is_federated and "password" not in payload.methods
    if vouched_for or payload.trust_id or payload.access_token_id or (lent is not None and lent.access_rule_ids):
        return UNSET
    if not payload.scope:
        return holder.worth
    worth = msgspec.structs.replace(holder.worth, roles=graph.refs(holder.given))
    if lent is not None:
        worth = delegation_store.by_credential(worth, lent, graph, UNSET)
    return worth if worth.roles else None


def _federated(connection: Connection, worth: Worth) -> Worth | None:
    """With where its user came from; None when the provider vouches for nobody any more."""
    came = federation_store.federation_of(connection, worth.user.id)
    if came is None:
        return None
    return msgspec.structs.replace(worth, user=msgspec.structs.replace(worth.user, federation=came))
