"""Servers as bytes: a page of them, or one. How a server looks is remembered by everything that its look is made of:
the row as the driver gave it or how often it was written, what stands beside it, who looks, and the microversion. So
nothing remembered can be out of date.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.compute.host import store as hosts
from kilonova.compute.server import views
from kilonova.compute.server.listing_store import Filters, as_text, beside, narrowed_page
from kilonova.compute.server.remembered import REMEMBERED, Remembered
from kilonova.compute.server.store import ServerFault, as_server, devices, faults, no_such, servers, tags
from kilonova.db.database import bulky, says
from kilonova.db.listing import Page
from kilonova.db.statements import Conversions, Row, Statement, as_came, converted

_ID, _HOST, _PROJECT, _USER = (servers.c.keys().index(name) for name in ("id", "host", "project_id", "user_id"))
_JSON = [place for place, column in enumerate(servers.c) if isinstance(column.type, sa.JSON)]
_encode = msgspec.json.Encoder().encode

Drawn = tuple[str, msgspec.Raw]
Look = tuple[views.Eyes, views.Version]
Draw = Callable[[views.Version, views.Shown], dict[str, Any]]
Beside = tuple[tuple[str, ...], tuple[tuple[str, bool], ...], ServerFault | None, bool]  # …, whether its host is up


@bulky
@says("servers: read a page")
def page_in_bytes(
    connection: Connection, filters: Filters, page: Page, look: Look, since: datetime, remembered: Remembered
) -> list[Drawn]:
    """(id, entry of /servers/detail) of a page that SQL alone can choose; hosts that reported since then are up."""
    alive = hosts.alive(connection, since)
    if connection.dialect.name == "sqlite":
        return _page_of_changed(connection, narrowed_page(connection, sa.select(*_KEYS), filters, page), look,
                                (alive, remembered))  # fmt: skip
    eyes, version = look
    rows, convert = as_came(connection, narrowed_page(connection, sa.select(*as_text()), filters, page))
    stands = _beside(connection, [(row[_ID], row[_HOST]) for row in rows], alive)
    kept = (Kept(row, convert, known) for row, known in zip(rows, stands, strict=True))
    return [(one.id, one.drawn(views.detail, eyes, version)) for one in kept]


def _page_of_changed(
    connection: Connection, chosen: sa.Select[Any], look: Look, known: tuple[Collection[str], Remembered]
) -> list[Drawn]:
    """A page of which only those rows are read that were written since they were shown.

    For SQLite, whose file one process has for itself. Beside a process on a database server there may be one of an
    older release, which does not count its writes.
    """
    alive, remembered = known
    rows, _ = as_came(connection, chosen)
    more = [row[0] for row in rows if any(row[_KEY_LENGTH:])]
    beside_these = dict(zip(more, _beside(connection, [(id_, "") for id_ in more], ()), strict=True))
    drawn: list[tuple[str, msgspec.Raw | None]] = []
    missing: dict[str, tuple[int, Beside]] = {}
    for id_, changes, host, *_ in rows:
        tagged, volumes, failed, _ = beside_these.get(id_, _NOTHING_BESIDE)
        made_of = (changes, (tagged, volumes, failed, host in alive))
        seen = remembered.look(id_, look, made_of)
        drawn.append((id_, seen))
        if seen is None:
            missing[id_] = made_of
    made = _drawn_anew(connection, missing, look)
    for id_, entry in made.items():
        remembered.remember(id_, look, missing[id_], entry)
    return [(id_, made[id_] if entry is None else entry) for id_, entry in drawn]


def _drawn_anew(
    connection: Connection, missing: Mapping[str, tuple[int, Beside]], look: Look
) -> dict[str, msgspec.Raw]:
    """How these servers look, by id."""
    eyes, version = look
    ids, made = list(missing), {}
    for part in (ids[start : start + 500] for start in range(0, len(ids), 500)):
        rows, convert = _THESE_AS_TEXT.as_came(connection, ids=part)
        for row in rows:
            made[row[_ID]] = _drawn(row, convert, missing[row[_ID]][1], (views.detail, eyes, version))
    return made


def _beside(connection: Connection, of: Sequence[tuple[str, str]], alive: Collection[str]) -> list[Beside]:
    """What stands beside each of these (server's id, host)."""
    tagged, volumes, failed, _ = beside(connection, [id_ for id_, _ in of])
    return [
        (tuple(tagged.get(id_, ())), tuple(volumes.get(id_, ())), failed.get(id_), host in alive) for id_, host in of
    ]


def _some(*where: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    """Whether there is any such row: a number, as it comes from the driver."""
    return sa.type_coerce(sa.exists(sa.literal(1)).where(*where), sa.Integer)


# most servers have nothing beside their row, and one statement tells
_SOME_BESIDE = (
    _some(tags.c.server_id == servers.c.id),
    _some(devices.c.server_id == servers.c.id, devices.c.volume_id != ""),
    _some(faults.c.server_id == servers.c.id),
)
_HOST_IS_UP = _some(hosts.hosts.c.name == servers.c.host, hosts.hosts.c.reported_at >= sa.bindparam("since"))
_FLAGS = (_HOST_IS_UP, *_SOME_BESIDE)
_KEYS = (servers.c.id, servers.c.changes, servers.c.host, *_SOME_BESIDE)
_KEY_LENGTH = len(_KEYS) - len(_SOME_BESIDE)
_NOTHING_BESIDE: Beside = ((), (), None, False)
_NOT_DELETED = (servers.c.id == sa.bindparam("id"), servers.c.deleted_at.is_(None))
_ONE_AS_TEXT = Statement(sa.select(*as_text(), *_FLAGS).where(*_NOT_DELETED))
_THESE_AS_TEXT = Statement(sa.select(*as_text()).where(servers.c.id.in_(sa.bindparam("ids", expanding=True))))


@says("servers: read one")
def one_as_kept(connection: Connection, server_id: str, since: datetime) -> Kept:
    """The server as its row has it, with what stands beside it; NOT_FOUND when there is none."""
    rows, convert = _ONE_AS_TEXT.as_came(connection, id=server_id, since=since)
    if not rows:
        raise no_such(server_id)
    row, (is_up, *more) = rows[0][: -len(_FLAGS)], rows[0][-len(_FLAGS) :]
    known = _beside(connection, [(server_id, "")], ())[0] if any(more) else _NOTHING_BESIDE
    return Kept(row, convert, (*known[:3], bool(is_up)))


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
        return _remembered(self.row, self.convert, self.beside, (draw, eyes, version))


def _drawn(row: Row, convert: Conversions, known: Beside, how: tuple[Draw, views.Eyes, views.Version]) -> msgspec.Raw:
    draw, eyes, version = how
    values = list(converted(row, convert))
    for place in _JSON:
        if isinstance(values[place], str):
            values[place] = msgspec.json.decode(values[place])
    tagged, volumes, fault, is_up = known
    shown = views.shown_as(as_server(values), eyes, lambda _: is_up)
    shown.tags, shown.volumes, shown.fault = list(tagged), list(volumes), fault
    return msgspec.Raw(_encode(draw(version, shown)))


_remembered = lru_cache(REMEMBERED)(_drawn)
