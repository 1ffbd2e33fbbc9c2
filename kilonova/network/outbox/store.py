"""The outbox in the database: events for compute wait here until compute has taken them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.db.database import lone, redone, unhurried
from kilonova.db.statements import Statement, insert
from kilonova.network import schema
from kilonova.network.work import Event, Work

_outbox = schema.outbox
TRIES = 20
CHANGED, DELETED = "network-changed", "network-vif-deleted"
LONGEST_SECONDS = 60.0


_OF_PORT = _outbox.delete().where(
    _outbox.c.port_id == sa.bindparam("port"), _outbox.c.server_id == sa.bindparam("server")
)
_ALL = Statement(_OF_PORT)
_SAME = Statement(_OF_PORT.where(_outbox.c.event == CHANGED))
_OTHERS = Statement(_OF_PORT.where(_outbox.c.event != CHANGED))
_DUE = Statement(
    sa.select(*(_outbox.c[name] for name in Event.__struct_fields__))
    .where(_outbox.c.due_at <= sa.bindparam("now"))
    .order_by(_outbox.c.created_at)
    .limit(sa.bindparam("most"))
)
_SENT = Statement(_outbox.delete().where(_outbox.c.id.in_(sa.bindparam("ids", expanding=True))))


def put(work: Work, event: str, server_id: str, port_id: str) -> None:
    """Compute must hear of it; what still waits and says less, or the opposite, is overtaken."""
    overtaken = _ALL if event == DELETED else _SAME if event == CHANGED else _OTHERS
    overtaken.change(work.connection, port=port_id, server=server_id)
    now = work.draw.now()
    waits = Event(work.draw.id(), event, server_id, port_id, 0, now, now)
    insert(work.connection, _outbox, msgspec.structs.asdict(waits))
    work.changes.events.append(waits)


def forget(work: Work, server_id: str, port_id: str) -> None:
    """Compute hears nothing any more of this port: it knows what there is to know."""
    _ALL.change(work.connection, port=port_id, server=server_id)


@lone
def due(connection: Connection, now: datetime, limit: int) -> list[Event]:
    """Events whose time has come, oldest first."""
    return [Event(*row) for row in _DUE.all(connection, now=now, most=limit)]


@unhurried  # whoever reads them is the loop that sent them; after a crash they are sent once more
@redone
def sent(work: Work, ids: Sequence[str]) -> None:
    """Compute has them."""
    _SENT.change(work.connection, ids=list(ids))


def failed(work: Work, ids: Sequence[str]) -> None:
    """Compute did not take them: later again, ever later, and not for ever."""
    now = work.draw.now()
    for id_, tries in work.connection.execute(
        sa.select(_outbox.c.id, _outbox.c.tries).where(_outbox.c.id.in_(ids))
    ).all():
        if tries + 1 >= TRIES:
            work.connection.execute(_outbox.delete().where(_outbox.c.id == id_))
            continue
        later = now + timedelta(seconds=min(LONGEST_SECONDS, 0.5 * 2**tries))
        work.connection.execute(_outbox.update().where(_outbox.c.id == id_).values(tries=tries + 1, due_at=later))
