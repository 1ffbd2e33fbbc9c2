"""SQL that limits a token to what was delegated: by a trust, or by an application credential."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa
from msgspec import UnsetType
from sqlalchemy import Connection

from kilonova.db.statements import read
from kilonova.identity.contract import AccessRuleRef, ApplicationCredentialRef, OAuthRef, TrustRef, UserId, UserRef
from kilonova.identity.schema import access_rules, oauth_access_tokens, trusts
from kilonova.identity.token.holder_store import Credential
from kilonova.identity.token.payload import Payload
from kilonova.identity.token.roles_store import RoleGraph, roles_of
from kilonova.identity.token.worth_store import Worth, read_user


def by_credential(worth: Worth, lent: Credential, graph: RoleGraph, rules: list[AccessRuleRef] | UnsetType) -> Worth:
    """`worth` with the roles that the application credential of its user has too, and its rules when it has any."""
    allowed = graph.reached(lent.role_ids)
    return msgspec.structs.replace(
        worth,
        roles=tuple(role for role in worth.roles if role.id in allowed),
        credential=ApplicationCredentialRef(lent.id, lent.name, not lent.unrestricted, access_rules=rules),
        delegated_until=lent.expires_at,
    )


def by_access_token(connection: Connection, worth: Worth, access_token_id: str, graph: RoleGraph) -> Worth | None:
    """`worth` with the roles that its user lent to an OAuth1 consumer and still has; None when that was taken back."""
    table = oauth_access_tokens
    row = connection.execute(
        sa.select(table).where(table.c.id == access_token_id, table.c.user_id == worth.user.id)
    ).first()
    if row is None or worth.project is None or worth.project.id != row.project_id:
        return None
    allowed = graph.reached(row.role_ids)
    return msgspec.structs.replace(
        worth,
        roles=tuple(role for role in worth.roles if role.id in allowed),
        oauth=OAuthRef(row.id, row.consumer_id),
        delegated_until=row.expires_at,
    )


def rules_of(connection: Connection, ids: list[str]) -> list[AccessRuleRef]:
    """The access rules of these ids."""
    table = access_rules.c
    found = read(connection, (table.id, table.path, table.method, table.service), {"id": ids}, order=(table.id,))
    return [AccessRuleRef(*row) for row in found]


def by_trust(connection: Connection, worth: Worth, payload: Payload, graph: RoleGraph) -> Worth | None:
    """`worth` with the roles that the trust delegates; None when the trust is gone or its trustor lost any of them.

    Of trusts that were redelegated, the roles are the first trustor's; all users on the way must be enabled.
    """
    row = connection.execute(sa.select(trusts).where(trusts.c.id == payload.trust_id)).first()
    if row is None or row.project_id is None or (worth.project is None or worth.project.id != row.project_id):
        return None
    user_id = row.trustor_user_id if row.impersonation else row.trustee_user_id
    people, first = _people(connection, row)
    if worth.user.id != user_id or people is None:
        return None
    held = roles_of(connection, first, "project", row.project_id, graph)
    if not set(row.role_ids) <= {role.id for role in held}:
        return None
    delegated = graph.reached(row.role_ids)
    trust = TrustRef(row.id, bool(row.impersonation), UserId(row.trustor_user_id), UserId(row.trustee_user_id))
    if row.redelegated_trust_id:
        trust = msgspec.structs.replace(
            trust, redelegated_trust_id=row.redelegated_trust_id, redelegation_count=row.redelegation_count
        )
    return msgspec.structs.replace(
        worth,
        roles=tuple(role for role in held if role.id in delegated),
        trust=trust,
        delegated_until=row.expires_at,
        delegators=tuple(people),
    )


def _people(connection: Connection, row: sa.Row[object]) -> tuple[list[UserRef] | None, str]:
    """(everyone that the trust and those before it name, None when one is disabled; id of the first trustor)."""
    people: dict[str, UserRef] = {}
    while True:
        for user_id in (row.trustor_user_id, row.trustee_user_id):
            user = people.get(user_id) or read_user(connection, user_id)
            if user is None:
                return None, ""
            people[user_id] = user
        if row.redelegated_trust_id is None:
            return list(people.values()), row.trustor_user_id
        above = connection.execute(sa.select(trusts).where(trusts.c.id == row.redelegated_trust_id)).first()
        if above is None:
            return None, ""
        row = above
