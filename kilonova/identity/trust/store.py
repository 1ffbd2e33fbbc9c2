"""SQL about trusts."""

from __future__ import annotations

from datetime import datetime

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.identity import store
from kilonova.identity.schema import trusts


class Trust(msgspec.Struct):
    """The trustor lets the trustee act with some of its roles on a project. `remaining_uses` None: without end.

    `redelegated_trust_id` is the trust that this one was made with; `redelegation_count` says how many may follow.
    """

    id: str
    trustor_user_id: str
    trustee_user_id: str
    project_id: str | None
    impersonation: bool
    role_ids: list[str]
    expires_at: datetime | None
    remaining_uses: int | None
    redelegated_trust_id: str | None
    redelegation_count: int

    def has_passed(self, now: datetime) -> bool:
        """Whether it is over: its time has come, or its uses are gone."""
        return (self.expires_at is not None and self.expires_at <= now) or self.remaining_uses == 0


def get(connection: Connection, trust_id: str) -> Trust | None:
    """The trust of that id."""
    return store.get(connection, trusts, Trust, trust_id)


def listed(connection: Connection, trustor_user_id: str, trustee_user_id: str) -> list[Trust]:
    """Trusts given by one user, to one user; "" is anybody."""
    wanted = (("trustor_user_id", trustor_user_id), ("trustee_user_id", trustee_user_id))
    return store.listed(connection, trusts, Trust, [(name, "equals", value) for name, value in wanted if value])


def use(connection: Connection, trust_id: str) -> bool:
    """Count one use; False when none was left."""
    table = trusts.c
    left = sa.or_(table.remaining_uses.is_(None), table.remaining_uses > 0)
    used = trusts.update().where(table.id == trust_id, left).values(remaining_uses=table.remaining_uses - 1)
    return connection.execute(used).rowcount == 1


def first_trustor(connection: Connection, trust: Trust) -> str:
    """Whose roles it delegates: the trustor of the trust that the chain began with."""
    while trust.redelegated_trust_id is not None:
        above = get(connection, trust.redelegated_trust_id)
        if above is None:
            break
        trust = above
    return trust.trustor_user_id
