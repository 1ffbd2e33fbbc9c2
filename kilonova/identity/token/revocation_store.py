"""SQL about revocations: which tokens may not be used although their time has not come."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.db.statements import Statement
from kilonova.identity.schema import revocations
from kilonova.identity.token.payload import Payload

RevocationKind = Literal["token", "chain", "user", "project", "domain"]


class Revocation(msgspec.Struct, frozen=True):
    """Tokens of `value` issued until `revoked_at` are worth nothing."""

    kind: RevocationKind
    value: str
    revoked_at: datetime


def revoke(
    connection: Connection, id_: str, kind: RevocationKind, value: str, revoked_at: datetime, expires_at: datetime
) -> None:
    """Tokens of `value` issued until `revoked_at` are worth nothing; forgotten after `expires_at`."""
    connection.execute(
        revocations.insert().values(id=id_, kind=kind, value=value, revoked_at=revoked_at, expires_at=expires_at)
    )


_SINCE = Statement(
    sa.select(revocations.c.kind, revocations.c.value).where(
        revocations.c.value.in_(sa.bindparam("values", expanding=True)),
        revocations.c.revoked_at >= sa.bindparam("issued_at"),
    )
)


def is_revoked(connection: Connection, payload: Payload, user_ids: set[str], domain_ids: set[str]) -> bool:
    """Whether any revocation concerns the token: the users in whose name it speaks, their domains, its scope."""
    concerned = {
        ("token", payload.audit_ids[0]),
        ("chain", payload.audit_ids[-1]),
        *(("user", user_id) for user_id in user_ids),
        *(("domain", domain_id) for domain_id in domain_ids),
    }
    if payload.scope == "project":
        concerned.add(("project", payload.scope_id))
    values = list({value for _, value in concerned})
    return not concerned.isdisjoint(_SINCE.all(connection, values=values, issued_at=payload.issued_at))


def listed(connection: Connection, since: datetime | None) -> list[Revocation]:
    """All that are remembered, oldest first; those after `since` when it is given."""
    names = [revocations.c[name] for name in Revocation.__struct_fields__]
    found = sa.select(*names).order_by(revocations.c.revoked_at)
    if since is not None:
        found = found.where(revocations.c.revoked_at > since)
    return [Revocation(**row._mapping) for row in connection.execute(found)]


def prune(connection: Connection, now: datetime) -> int:
    """Forget revocations whose tokens have all expired; how many went."""
    return connection.execute(revocations.delete().where(revocations.c.expires_at < now)).rowcount
