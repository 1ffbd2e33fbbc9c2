"""Tags in the database."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.network import rows_store, schema
from kilonova.network.work import Work

TAGGED = {
    "networks": schema.networks,
    "subnets": schema.subnets,
    "ports": schema.ports,
    "routers": schema.routers,
    "floatingips": schema.floating_ips,
    "security-groups": schema.security_groups,
    "security_groups": schema.security_groups,
}
tags_of = rows_store.tags_of


def owner(connection: Connection, noun: str, id_: str) -> str | None:
    """The project of the resource; None when there is no such noun or resource."""
    table = TAGGED.get(noun)
    if table is None:
        return None
    found: str | None = connection.scalar(sa.select(table.c.project_id).where(table.c.id == id_))
    return found


def _touch(work: Work, noun: str, id_: str) -> None:
    """A change of tags is a change of the resource; it is locked, so that two changes of its tags do not mix."""
    table = TAGGED[noun]
    values = {"revision": table.c.revision + 1, "updated_at": work.draw.now()}
    work.connection.execute(table.update().where(table.c.id == id_).values(**values))


def replace(work: Work, noun: str, id_: str, wanted: list[str]) -> list[str]:
    """The resource has exactly these tags."""
    _touch(work, noun, id_)
    rows_store.drop_tags(work.connection, id_)
    rows_store.add_tags(work.connection, id_, wanted)
    return tags_of(work.connection, id_)


def add(work: Work, noun: str, id_: str, tag: str) -> None:
    """The resource has this tag too."""
    if tag not in tags_of(work.connection, id_):
        _touch(work, noun, id_)
        rows_store.add_tags(work.connection, id_, [tag])


def drop(work: Work, noun: str, id_: str, tag: str | None) -> int:
    """The resource loses this tag, or all; how many it lost."""
    gone = rows_store.drop_tags(work.connection, id_, tag)
    if gone:
        _touch(work, noun, id_)
    return gone
