"""All SQL about aggregates. They have no rows of their own: an aggregate is the id that its members share."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.placement.change import store as changes
from kilonova.placement.provider import store as providers
from kilonova.placement.schema import provider_aggregate

Members = tuple[providers.Provider, list[str]]


def of_provider(connection: Connection, provider_id: str) -> Members:
    """The provider and its aggregates; 404 when there is no such provider."""
    found = providers.show(connection, provider_id)
    held = sa.select(provider_aggregate.c.aggregate_id).where(provider_aggregate.c.provider_id == provider_id)
    return found, sorted(connection.scalars(held))


def replace(
    connection: Connection, provider_id: str, wanted: frozenset[str], generation: int | None, now: datetime
) -> Members:
    """The provider is in exactly these aggregates; 409 when it is not at `generation` (None: not checked or raised)."""
    providers.lock(connection, provider_id, generation)
    mine = provider_aggregate.c.provider_id == provider_id
    connection.execute(sa.delete(provider_aggregate).where(mine))
    if wanted:
        rows = [{"provider_id": provider_id, "aggregate_id": one} for one in sorted(wanted)]
        connection.execute(sa.insert(provider_aggregate), rows)
    if generation is None:
        changes.record(connection, [provider_id])
    else:
        providers.bump(connection, [provider_id], now)
    return of_provider(connection, provider_id)
