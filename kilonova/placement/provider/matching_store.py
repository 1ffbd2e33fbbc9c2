"""Which providers match a question, in SQL: for lists of providers. The search for candidates runs on the mirror."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from kilonova.placement.candidate.wanted import Wanted
from kilonova.placement.schema import inventory, provider, provider_aggregate, provider_trait


def matches(query: sa.Select[Any], wanted: Wanted) -> sa.Select[Any]:
    """`query` over providers, narrowed to those that alone have room for all resources, and the traits."""
    for resource_class, amount in sorted(wanted.resources.items()):
        book = inventory.alias()
        query = query.join(book, sa.and_(book.c.provider_id == provider.c.id, *_room(book, resource_class, amount)))
    for group in wanted.required:
        query = query.where(_has(group))
    if wanted.forbidden:
        query = query.where(~_has(wanted.forbidden))
    for group in wanted.member_of:
        query = query.where(_in_aggregate(group))
    if wanted.not_member_of:
        query = query.where(~_in_aggregate(wanted.not_member_of))
    if wanted.in_tree:
        member = provider.alias("member")
        root = sa.select(member.c.root_id).where(member.c.id == wanted.in_tree)
        query = query.where(provider.c.root_id == root.scalar_subquery())
    return query


def _room(book: sa.FromClause, resource_class: str, amount: int) -> list[sa.ColumnElement[bool]]:
    return [
        book.c.resource_class == resource_class,
        book.c.used + amount <= (book.c.total - book.c.reserved) * book.c.allocation_ratio,
        book.c.min_unit <= amount,
        book.c.max_unit >= amount,
        sa.literal(amount) % book.c.step_size == 0,
    ]


def _in_aggregate(aggregates: frozenset[str]) -> sa.ColumnElement[bool]:
    held = sa.select(provider_aggregate.c.provider_id).where(
        provider_aggregate.c.provider_id == provider.c.id, provider_aggregate.c.aggregate_id.in_(sorted(aggregates))
    )
    return sa.exists(held)


def _has(traits: frozenset[str]) -> sa.ColumnElement[bool]:
    held = sa.select(provider_trait.c.provider_id).where(
        provider_trait.c.provider_id == provider.c.id, provider_trait.c.trait.in_(sorted(traits))
    )
    return sa.exists(held)
