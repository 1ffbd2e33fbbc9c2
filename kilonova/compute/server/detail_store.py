"""Servers as bytes: a page of them, or one. How a server looks is remembered by everything that its look is made of:
the row as the driver gave it, what stands beside it, who looks, and the microversion. So nothing remembered can be out
of date.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.compute.host import store as hosts
from kilonova.compute.server import views
from kilonova.compute.server.listing_store import Filters, as_text, beside, narrowed_page
from kilonova.compute.server.store import ServerFault, as_server, devices, faults, no_such, servers, tags
from kilonova.db.database import bulky, says
from kilonova.db.listing import Page
from kilonova.db.statements import Conversions, Row, Statement, as_came, converted

REMEMBERED = 4000
_ID, _HOST, _PROJECT, _USER = (servers.c.keys().index(name) for name in ("id", "host", "project_id", "user_id"))
_JSON = [place for place, column in enumerate(servers.c) if isinstance(column.type, sa.JSON)]
_encode = msgspec.json.Encoder().encode

Drawn = tuple[str, msgspec.Raw]
Draw = Callable[[views.Version, views.Shown], dict[str, Any]]
Beside = tuple[tuple[str, ...], tuple[tuple[str, bool], ...], ServerFault | None, bool]  # …, whether its host is up


@bulky
@says("servers: read a page")
def page_in_bytes(
    connection: Connection, filters: Filters, page: Page, eyes: views.Eyes, version: views.Version, since: datetime
) -> list[Drawn]:
    """(id, entry of /servers/detail) of a page that SQL alone can choose; hosts that reported since then are up."""
    rows, convert = as_came(connection, narrowed_page(connection, sa.select(*as_text()), filters, page))
    ids = [row[_ID] for row in rows]
    tagged, volumes, failed, _ = beside(connection, ids)
    alive = hosts.alive(connection, since)
    made = []
    for id_, row in zip(ids, rows, strict=True):
        known = (tuple(tagged.get(id_, ())), tuple(volumes.get(id_, ())), failed.get(id_), row[_HOST] in alive)
        made.append((id_, Kept(row, convert, known).drawn(views.detail, eyes, version)))
    return made


def _some(*where: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    """Whether there is any such row: a number, as it comes from the driver."""
    return sa.type_coerce(sa.exists(sa.literal(1)).where(*where), sa.Integer)


# one statement for most servers: only what a server has beside its row is read as well
_FLAGS = (
    _some(hosts.hosts.c.name == servers.c.host, hosts.hosts.c.reported_at >= sa.bindparam("since")),
    _some(tags.c.server_id == servers.c.id),
    _some(devices.c.server_id == servers.c.id, devices.c.volume_id != ""),
    _some(faults.c.server_id == servers.c.id),
)
_NOT_DELETED = (servers.c.id == sa.bindparam("id"), servers.c.deleted_at.is_(None))
_ONE_AS_TEXT = Statement(sa.select(*as_text(), *_FLAGS).where(*_NOT_DELETED))


@says("servers: read one")
def one_as_kept(connection: Connection, server_id: str, since: datetime) -> Kept:
    """The server as its row has it, with what stands beside it; NOT_FOUND when there is none."""
    rows, convert = _ONE_AS_TEXT.as_came(connection, id=server_id, since=since)
    if not rows:
        raise no_such(server_id)
    row, (is_up, *more) = rows[0][: -len(_FLAGS)], rows[0][-len(_FLAGS) :]
    tagged, volumes, failed, _ = beside(connection, [server_id]) if any(more) else ({}, {}, {}, {})
    known = (tuple(tagged.get(server_id, ())), tuple(volumes.get(server_id, ())), failed.get(server_id), bool(is_up))
    return Kept(row, convert, known)


class Kept(msgspec.Struct, frozen=True):
    """A server's row as the database holds it, how it is read, and what stands beside it."""

    row: Row
    convert: Conversions
    beside: Beside

    @property
    def id(self) -> str:
        """The server's."""
        return str(self.row[_ID])

    @property
    def project_id(self) -> str:
        """Whose it is."""
        return str(self.row[_PROJECT])

    def target(self) -> dict[str, Any]:
        """What policy rules look at."""
        return {"project_id": self.project_id, "user_id": self.row[_USER]}

    def drawn(self, draw: Draw, eyes: views.Eyes, version: views.Version) -> msgspec.Raw:
        """How it looks."""
        return _remembered(self.row, self.convert, self.beside, draw, eyes, version)


@lru_cache(REMEMBERED)
def _remembered(
    row: Row,
    convert: Conversions,
    known: Beside,
    draw: Draw,
    eyes: views.Eyes,
    version: views.Version,
) -> msgspec.Raw:
    values = list(converted(row, convert))
    for place in _JSON:
        if isinstance(values[place], str):
            values[place] = msgspec.json.decode(values[place])
    tagged, volumes, fault, is_up = known
    shown = views.shown_as(as_server(values), eyes, lambda _: is_up)
    shown.tags, shown.volumes, shown.fault = list(tagged), list(volumes), fault
    return msgspec.Raw(_encode(draw(version, shown)))
