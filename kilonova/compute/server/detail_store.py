"""A page of servers as bytes. How a server looks is remembered by everything that its look is made of: the row as the
driver gave it, what stands beside it, who looks, and the microversion. So nothing remembered can be out of date.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.compute.host import store as hosts
from kilonova.compute.server import views
from kilonova.compute.server.listing_store import Filters, as_text, beside, narrowed_page
from kilonova.compute.server.store import ServerFault, as_server, servers
from kilonova.db.database import bulky, says
from kilonova.db.listing import Page
from kilonova.db.statements import conversions

REMEMBERED = 4000
_ID, _HOST = list(servers.c).index(servers.c.id), list(servers.c).index(servers.c.host)
_JSON = [place for place, column in enumerate(servers.c) if isinstance(column.type, sa.JSON)]
_encode = msgspec.json.Encoder().encode

Drawn = tuple[str, msgspec.Raw]
Beside = tuple[tuple[str, ...], tuple[tuple[str, bool], ...], ServerFault | None, bool]  # …, whether its host is up


@bulky
@says("servers: read a page")
def page_in_bytes(
    connection: Connection, filters: Filters, page: Page, eyes: views.Eyes, version: views.Version, since: datetime
) -> list[Drawn]:
    """(id, entry of /servers/detail) of a page that SQL alone can choose; hosts that reported since then are up."""
    found = connection.execute(narrowed_page(connection, sa.select(*as_text()), filters, page))
    raw: Any = connection.dialect.name == "sqlite" and found.cursor
    rows: Sequence[tuple[Any, ...]] = raw.fetchall() if raw else [tuple(row) for row in found]
    ids = [row[_ID] for row in rows]
    tagged, volumes, failed, _ = beside(connection, ids)
    alive = hosts.alive(connection, since)
    convert = conversions(tuple(as_text()), connection.dialect) if raw else ()
    entry = _remembered if raw else _entry  # server databases hand JSON over as objects, which nothing can be found by
    made = []
    for id_, row in zip(ids, rows, strict=True):
        known = (tuple(tagged.get(id_, ())), tuple(volumes.get(id_, ())), failed.get(id_), row[_HOST] in alive)
        made.append((id_, entry(row, convert, known, eyes, version)))
    return made


def _entry(
    row: tuple[Any, ...], convert: tuple[tuple[int, Any], ...], known: Beside, eyes: views.Eyes, version: views.Version
) -> msgspec.Raw:
    values = list(row)
    for place, to in convert:
        values[place] = to(values[place])
    for place in _JSON:
        if isinstance(values[place], str):
            values[place] = msgspec.json.decode(values[place])
    tagged, volumes, fault, is_up = known
    shown = views.shown_as(as_server(values), eyes, lambda _: is_up)
    shown.tags, shown.volumes, shown.fault = list(tagged), list(volumes), fault
    return msgspec.Raw(_encode(views.detail(version, shown)))


_remembered = lru_cache(REMEMBERED)(_entry)
