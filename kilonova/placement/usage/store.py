"""All SQL about usages."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.placement.provider import store as providers
from kilonova.placement.schema import allocation, consumer, inventory


def of_provider(connection: Connection, provider_id: str) -> tuple[providers.Provider, dict[str, int]]:
    """The provider and how much is used of each class that it has; 404 when there is no such provider."""
    found = providers.show(connection, provider_id)
    query = sa.select(inventory.c.resource_class, inventory.c.used).where(inventory.c.provider_id == provider_id)
    return found, {row[0]: row[1] for row in connection.execute(query.order_by(inventory.c.resource_class))}


def of_project(connection: Connection, project_id: str, user_id: str | None) -> dict[str, dict[str, int]]:
    """consumer type → class → sum, with `consumer_count`, of what a project (and user) holds."""
    mine = [consumer.c.project_id == project_id, *([consumer.c.user_id == user_id] if user_id is not None else [])]
    source = allocation.join(consumer, consumer.c.id == allocation.c.consumer_id)
    sums = (
        sa.select(consumer.c.type, allocation.c.resource_class, sa.func.sum(allocation.c.used))
        .select_from(source)
        .where(*mine)
        .group_by(consumer.c.type, allocation.c.resource_class)
        .order_by(consumer.c.type, allocation.c.resource_class)
    )
    counts = sa.select(consumer.c.type, sa.func.count()).where(*mine).group_by(consumer.c.type)
    made = {type_: {"consumer_count": count} for type_, count in connection.execute(counts)}
    for type_, name, used in connection.execute(sums):
        made[type_][name] = int(used)
    return made
