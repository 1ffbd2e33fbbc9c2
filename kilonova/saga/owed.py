"""What a run owes its operation's journal: lines that wait for its next commit, and what is committed with them.

A commit waits for the disk, so a step's lines share one wherever nothing is lost by that:

- A step's end is written with whatever is written next: without it the step is asked for again, and answers as it did.
- A step that has no undo and shows nothing may act before its beginning is written: after a crash nothing would be
  undone, and it is asked for again under the same key. That the operation is still ours is read before it acts. A
  host's first step is written before, as the conductor answers a host about an operation only when that has a step
  there. What lasts is written with the leases.
- `write_with_next` changes our own database in the next step's commit, before that step acts.
- The lease of an operation that nobody has had is taken in its run's first commit, before anything acts.

A commit that only goes straight on waits for no disk (`redone`): when a power cut takes it, it is as if the runner had
died that much earlier. It is the beginning of a step that has no undo, or whose act is marked `redone` because a delete
finds what it made without the line; and the end of the operation. Whatever leads back (a failure, an undo) waits, as
what was undone elsewhere must not stand here as done. docs/decisions/0037 has the argument.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection

from kilonova.db.database import Database, marks, redone
from kilonova.saga.journal import Journal, OperationRow, StepRow, Superseded

T = TypeVar("T")


class _Line(NamedTuple):
    """A step that ended, or a unit to run with what it is in the journal."""

    step: StepRow
    unit: Callable[..., None] | None = None
    args: tuple[Any, ...] = ()


class Owed:
    """Of one run. `steps`: what the journal has of the operation; `owner`: takes the lease, unless it is `leased`."""

    def __init__(
        self, db: Database, journal: Journal, row: OperationRow, steps: Iterable[StepRow], owner: str, *, leased: bool
    ) -> None:
        self._db = db
        self._journal = journal
        self._row = row
        self._owner = owner
        self._leased = leased
        self._written = {id(step): step for step in steps}
        self._hosts = {step.host for step in steps}
        self._lines: list[_Line] = []
        self._acts: StepRow | None = None
        self._turn = asyncio.Lock()

    # ── what waits

    def begun(self, step: StepRow) -> bool:
        """Whether the step may act although nothing is written of it; it is said to act from here on."""
        waits = any(line.unit is not None for line in self._lines)
        if step.undo or not self._leased or waits or (step.host and step.host not in self._hosts):
            return False
        self._acts = step
        return True

    def ended(self, step: StepRow) -> None:
        """The step has acted; how it ended stands in it."""
        self._acts = None
        self._lines.append(_Line(step))

    def untold(self) -> list[StepRow]:
        """The steps that ended and do not stand so in the journal."""
        return [line.step for line in self._lines if line.unit is None]

    def later(self, step: StepRow, unit: Callable[..., None], args: tuple[Any, ...]) -> None:
        """The unit runs with the next commit."""
        self._lines.append(_Line(step, unit, args))

    def drop(self, step: StepRow | None = None) -> bool:
        """Forget a unit that waits (None: all), as if it had never been asked for; whether there was one."""
        gone = [line for line in self._lines if line.unit is not None and (step is None or line.step is step)]
        for line in gone:
            line.step.state = "dropped"
            self._lines.remove(line)
        return bool(gone)

    # ── what is committed

    async def commit(self, words: str, unit: Callable[[Connection], T], *steps: StepRow) -> tuple[T, list[StepRow]]:
        """(what the unit returned, the steps whose units came along), once committed with all that waited.

        `steps`: those of which the unit writes the line. Superseded when the operation is another's. A waiting unit
        that raises is dropped, and nothing is written; what waits stays when `unit` itself raises.
        """
        async with self._turn:
            return await self._commit(words, unit, steps)

    async def tell(self) -> None:
        """The step that acts now stands in the journal: it has lasted so long that others want to see it."""
        async with self._turn:
            if (step := self._acts) is not None and id(step) not in self._written:
                line = redone(partial(self._journal.put_step, step=step))
                await self._commit(f"journal: {step.title}", line, (step,))

    async def show(self, step: StepRow, words: str, unit: Callable[[Connection], None]) -> None:
        """How far a step that runs has come. Nothing when it has ended meanwhile, or the operation is another's."""

        @redone
        def unless_ended(connection: Connection) -> None:
            if step.state == "running":
                unit(connection)

        with contextlib.suppress(Superseded):
            await self.commit(words, unless_ended)

    async def _commit(
        self, words: str, unit: Callable[[Connection], T], steps: tuple[StepRow, ...]
    ) -> tuple[T, list[StepRow]]:
        lines, settled = list(self._lines), False

        def whole(connection: Connection) -> T:
            nonlocal settled
            settled = False
            self._settle(connection, lines)
            settled = True
            return unit(connection)

        said = [line.step.title for line in lines if line.unit is not None]
        whole.says = "; ".join([*said, words])  # type: ignore[attr-defined]
        if "redone" in marks(unit):
            redone(whole)
        try:
            result = await self._db.write(whole)
        except Exception:  # edge: of whatever a unit raises; it goes on
            if not settled:
                self.drop()
            raise
        del self._lines[: len(lines)]
        self._leased = True
        for step in (*(line.step for line in lines), *steps):
            self._written[id(step)] = step
            self._hosts.add(step.host)
        return result, [line.step for line in lines if line.unit is not None]

    def _settle(self, connection: Connection, lines: list[_Line]) -> None:
        now = self._db.now(connection)
        if self._leased:
            self._journal.keep(connection, self._row.id, self._row.epoch, now)
        elif not self._journal.take(connection, self._row.id, self._owner, now):
            raise Superseded(self._row.id)
        for step, unit, args in lines:
            if unit is not None:
                unit(connection, *args)
            if id(step) in self._written:
                self._journal.end_step(connection, step, step.finished_at or now)
            else:
                self._journal.put_step(connection, step)
