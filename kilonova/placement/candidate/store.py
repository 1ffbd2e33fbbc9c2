"""All SQL about candidates: which providers have room, and what they hold. A fixed number of queries."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.placement.candidate.wanted import Wanted
from kilonova.placement.schema import inventory, provider, provider_aggregate, provider_trait

MANY = 200


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


class Book(msgspec.Struct, gc=False):
    """Capacity and use of one class, as the API shows it."""

    capacity: int
    used: int


class Summary(msgspec.Struct, gc=False):
    """A provider with its books and traits, as the API shows it today."""

    parent_provider_uuid: str | None
    root_provider_uuid: str
    resources: dict[str, Book]
    traits: list[str]


class Found(msgspec.Struct):
    """Candidates, and the books of all providers in their trees."""

    fits: list[str]
    summaries: dict[str, Summary]


def search(connection: Connection, wanted: Wanted, limit: int | None) -> Found:
    """Providers that alone have room for everything wanted, by id, at most `limit`."""
    chosen = matches(sa.select(provider.c.id, provider.c.root_id).select_from(provider), wanted)
    chosen = chosen.order_by(provider.c.id)
    if limit is not None:
        chosen = chosen.limit(limit)
    rows = connection.execute(chosen).all()
    fits = [row[0] for row in rows]
    return Found(fits, _summaries(connection, {row[1] for row in rows}))


def _summaries(connection: Connection, roots: set[str]) -> dict[str, Summary]:
    """The members of the trees. Few trees are asked for by id, many by reading all: ids would outgrow a statement."""
    if not roots:
        return {}
    members = sa.select(provider.c.id, provider.c.parent_id, provider.c.root_id)
    books = sa.select(
        inventory.c.provider_id, inventory.c.resource_class, inventory.c.total, inventory.c.reserved,
        inventory.c.allocation_ratio, inventory.c.used,
    )  # fmt: skip
    traits = sa.select(provider_trait.c.provider_id, provider_trait.c.trait)
    if len(roots) <= MANY:
        among = sa.select(provider.c.id).where(provider.c.root_id.in_(sorted(roots)))
        members = members.where(provider.c.root_id.in_(sorted(roots)))
        books = books.where(inventory.c.provider_id.in_(among))
        traits = traits.where(provider_trait.c.provider_id.in_(among))
    made = {row[0]: Summary(row[1], row[2], {}, []) for row in connection.execute(members).all() if row[2] in roots}
    for id_, name, total, reserved, ratio, used in connection.execute(books).all():
        if (summary := made.get(id_)) is not None:
            summary.resources[name] = Book(int((total - reserved) * ratio), used)
    for id_, name in connection.execute(traits.order_by(provider_trait.c.trait)).all():
        if (summary := made.get(id_)) is not None:
            summary.traits.append(name)
    return made
