"""All SQL about changes: each unit that changes the books leaves one row, and readers ask for the rows after theirs.

Sequence numbers are given before the commit, so on a database server a lower one may be seen after a higher one. A
position therefore lists the numbers below it that were still missing; they are asked for again until they are too old
to belong to a transaction that lives. For one provider the order is right all the same: whoever changes it holds its
row's lock, and takes its number while holding it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import invalid
from kilonova.db.statements import Statement, insert_numbered
from kilonova.placement.contract import Changes, Inventory, ProviderBooks, Used
from kilonova.placement.schema import change, inventory, provider, provider_aggregate, provider_trait

KEPT: Final = 50_000  # rows; a reader that is further behind gets everything
PRUNED_EVERY: Final = 1024
GAP_SECONDS: Final = 60
LOOKED_BACK: Final = 1000  # a whole answer lists the numbers missing among so many last ones
FEW: Final = 400  # providers that are asked for by id; more are read from all

Entry = tuple[str, int, dict[str, int] | None]  # (provider id, generation, used by class; None: read the provider)
_decoder: Final = msgspec.json.Decoder(list[Entry])


class Position(msgspec.Struct, frozen=True):
    """How far a reader is: the highest number seen, and (number, first missed at) of those missing below it."""

    seen: int = 0
    gaps: tuple[tuple[int, int], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Position:
        """The position that `written` told."""
        first, _, rest = text.partition(";")
        try:
            gaps = tuple(tuple(int(part) for part in gap.split("@")) for gap in rest.split(",") if gap)
            return msgspec.convert({"seen": int(first), "gaps": gaps}, cls)
        except (ValueError, msgspec.ValidationError):
            raise invalid("Invalid input for query parameter since: it is no position told here.") from None

    def written(self) -> str:
        """As readers keep it."""
        gaps = ",".join(f"{number}@{moment}" for number, moment in self.gaps)
        return f"{self.seen};{gaps}" if gaps else str(self.seen)

    def after(self, numbers: Sequence[int], now: datetime) -> Position:
        """The position of a reader that got `numbers`, ascending, just now."""
        found, moment = set(numbers), int(now.timestamp())
        last = max(self.seen, numbers[-1]) if numbers else self.seen
        gaps = [(n, at) for n, at in self.gaps if n not in found and moment - at < GAP_SECONDS]
        gaps += [(n, moment) for n in range(self.seen + 1, last) if n not in found]
        return Position(last, tuple(gaps))


def record(
    connection: Connection,
    whole: Iterable[str] = (),
    used: Mapping[str, tuple[int, dict[str, int]]] | None = None,
) -> None:
    """Tell mirrors that providers `whole` changed, and what is now used of others: (generation, by class).

    Called once at the end of a unit that holds the locks of all these providers.
    """
    entries: list[Entry] = [(id_, 0, None) for id_ in sorted(whole)]
    entries += [(id_, generation, amounts) for id_, (generation, amounts) in sorted((used or {}).items())]
    if not entries:
        return
    number = insert_numbered(connection, change, {"body": msgspec.json.encode(entries).decode()})
    if number % PRUNED_EVERY == 0:
        connection.execute(sa.delete(change).where(change.c.sequence <= number - KEPT))


_NUMBER = change.c.sequence
_SEEN: sa.BindParameter[int] = sa.bindparam("seen")
_SINCE = Statement(
    sa.select(_NUMBER, sa.case((_NUMBER == _SEEN, ""), else_=change.c.body))
    .where(sa.or_(_NUMBER >= _SEEN, _NUMBER.in_(sa.bindparam("gaps", expanding=True))))
    .order_by(_NUMBER)
)


def since(connection: Connection, position: str, now: datetime) -> Changes:
    """What happened after `position`; everything when it is "", of another database, or too long ago."""
    if not position:
        return _everything(connection, now)
    at = Position.parse(position)
    rows = _SINCE.all(connection, seen=at.seen, gaps=[n for n, _ in at.gaps])
    if at.seen and not any(row[0] == at.seen for row in rows):
        return _everything(connection, now)
    rows = [row for row in rows if row[0] != at.seen]
    if not rows and not at.gaps:
        return Changes(position)
    return _changes(connection, at.after([row[0] for row in rows], now), [row[1] for row in rows])


def _changes(connection: Connection, position: Position, bodies: Sequence[str]) -> Changes:
    whole: set[str] = set()
    used: dict[str, tuple[int, dict[str, int]]] = {}
    for body in bodies:
        for id_, generation, amounts in _decoder.decode(body):
            if amounts is None:
                whole.add(id_)
            else:
                used[id_] = (generation, {**used.get(id_, (0, {}))[1], **amounts})
    found = _books(connection, whole) if whole else {}
    return Changes(
        position.written(),
        providers=tuple(found.values()),
        used=tuple(Used(id_, *latest) for id_, latest in used.items() if id_ not in whole),
        gone=tuple(sorted(whole - found.keys())),
    )


def _everything(connection: Connection, now: datetime) -> Changes:
    last = sa.select(change.c.sequence).order_by(change.c.sequence.desc()).limit(LOOKED_BACK)
    numbers = sorted(connection.scalars(last))
    position = Position(numbers[0]).after(numbers, now) if numbers else Position()
    return Changes(position.written(), whole=True, providers=tuple(_books(connection, None).values()))


def _books(connection: Connection, ids: set[str] | None) -> dict[str, ProviderBooks]:
    """Providers with all that hangs on them, by id; None: all."""
    few = ids is not None and len(ids) <= FEW

    def rows(columns: tuple[Any, ...], key: Any, *order: Any) -> Iterable[Any]:
        query = sa.select(*columns)
        query = query.where(key.in_(sorted(ids or ()))) if few else query
        found = connection.execute(query.order_by(*order) if order else query).all()
        return found if ids is None or few else [row for row in found if row[0] in ids]

    made: dict[str, ProviderBooks] = {}
    p, t, a = provider.c, provider_trait.c, provider_aggregate.c
    traits = _gathered(rows((t.provider_id, t.trait), t.provider_id, t.trait))
    aggregates = _gathered(rows((a.provider_id, a.aggregate_id), a.provider_id, a.aggregate_id))
    for id_, name, generation, parent_id, root_id in rows(
        (p.id, p.name, p.generation, p.parent_id, p.root_id), p.id, p.id
    ):
        mine = tuple(traits.get(id_, ())), tuple(aggregates.get(id_, ()))
        made[id_] = ProviderBooks(id_, name, generation, parent_id, root_id, {}, {}, *mine)
    i = inventory.c
    fields = (i.total, i.reserved, i.min_unit, i.max_unit, i.step_size, i.allocation_ratio)
    for id_, name, used, *book in rows((i.provider_id, i.resource_class, i.used, *fields), i.provider_id):
        if (one := made.get(id_)) is not None:
            one.inventories[name] = Inventory(*book)
            one.used[name] = used
    return made


def _gathered(pairs: Iterable[Any]) -> dict[str, list[str]]:
    made: dict[str, list[str]] = {}
    for id_, value in pairs:
        made.setdefault(id_, []).append(value)
    return made
