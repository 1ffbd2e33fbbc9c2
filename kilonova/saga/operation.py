"""Operation: what a flow sees. `step` acts elsewhere and journals; `write` changes our database and journals in the
same transaction; `finish` is the last write. On resume the flow runs again and finished steps give their stored value.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, ParamSpec, TypeVar, cast

import msgspec
from sqlalchemy import Connection

from kilonova.base.faults import Fault
from kilonova.base.patience import AWAY_SECONDS, is_away
from kilonova.base.signatures import parameters_of, result_of
from kilonova.base.world import World
from kilonova.bus.contract import Target
from kilonova.db.database import DatabaseAway, marks
from kilonova.saga.journal import OperationRow, Parked, StepRow
from kilonova.trace import spans

if TYPE_CHECKING:
    from kilonova.saga.runner import Runner

S = TypeVar("S")
T = TypeVar("T")
H = TypeVar("H")
P = ParamSpec("P")

Show = Callable[[Connection, OperationRow, str], None]
Failed = Callable[[Connection, OperationRow, Fault], None]


@dataclass(frozen=True)
class Kind(Generic[S]):
    """A kind of operation: `flow(op, services, **args)`, every local undo its steps name, and two units:

    `show(connection, row, value)` writes what users see meanwhile (task_state), in the transaction of a step's start;
    `failed(connection, row, fault)` writes how it ended when it was undone, in the transaction that ends it.
    """

    name: str
    flow: Callable[..., Awaitable[None]]
    failed: Failed
    show: Show | None = None
    undos: tuple[Callable[..., Awaitable[None]], ...] = ()
    version: int = 1

    def shown(self, connection: Connection, row: OperationRow, value: str | None) -> None:
        """Users see `value`; nothing changes when there is none, or nowhere to show it."""
        if value is not None and self.show is not None:
            self.show(connection, row, value)


class HostVerb:
    """A verb of a host's contract, on one host: handed to `op.step`, never called directly."""

    def __init__(self, target: Target, contract: type, verb: str) -> None:
        self.target = target
        self.verb = verb
        method = getattr(contract, verb)
        self.parameters = parameters_of(method)[1:]
        self.arity = len(self.parameters)
        self.result = result_of(method)

    def __repr__(self) -> str:
        return f"{self.target.queue}.{self.verb}"


class _Host:
    def __init__(self, target: Target, contract: type) -> None:
        self._target = target
        self._contract = contract

    def __getattr__(self, verb: str) -> HostVerb:
        if verb.startswith("_"):
            raise AttributeError(verb)
        return HostVerb(self._target, self._contract, verb)


def host(contract: type[H], target: Target) -> H:
    """The verbs of `contract` on the agent at `target`, as steps: `op.step(title, host(...).start, server_id)`."""
    return cast(H, _Host(target, contract))


class Waits(NamedTuple):
    """How a step waits: for a silent host (0 seconds: as long as is usual), for a service that is away; what its act
    may show meanwhile."""

    host_seconds: float
    away_seconds: float
    phases: tuple[str, ...] = ()


class Step(Generic[S]):
    """What a local step or undo gets first: the services, and the key that makes repeats harmless."""

    def __init__(self, runner: Runner[S], row: OperationRow, key: str) -> None:
        self._runner = runner
        self.row = row
        self.services: S = runner.services
        self.world: World = runner.world
        self.key = key  # operation/step/index: send it as Idempotency-Key

    def secrets(self) -> dict[str, Any]:
        """What was sealed with the operation."""
        return self._runner.sealer.open(self.row.sealed)


class Operation(Generic[S]):
    """One run of one operation by one runner."""

    def __init__(self, runner: Runner[S], kind: Kind[S], row: OperationRow, journalled: list[StepRow]) -> None:
        self._runner = runner
        self._kind = kind
        self.row = row
        self.id = row.id
        self._known = {(step.step, step.index): step for step in journalled}
        self._counts: dict[str, int] = {}
        self._position = len(journalled)
        self._seen: list[StepRow] = []
        self.away_seconds = AWAY_SECONDS  # 0 for a flow that has other ways to wait
        self.finished = False

    async def step(
        self,
        title: str,
        act: Callable[..., Awaitable[T]],
        *args: Any,
        undo: Callable[..., Awaitable[Any]] | None = None,
        shows: str | None = None,
        then: tuple[str, ...] = (),
        patience_seconds: float = 0.0,
    ) -> T:
        """What `act` returns: a host's verb, or `async def act(step, *args)` here. Journalled before and after;
        when there is nothing to undo or to show, after (saga/owed.py).

        `undo` is a host's verb or one of the kind's undos; it gets (args…, result) as far as it has parameters.
        An act is marked `redone` when what it makes is found, and done away with, without its line in the journal.
        `shows` is what users see from now on, and one of `then` when a host says that it has come so far and does not
        end soon. `patience_seconds`: how long a silent host is waited for. A service that
        is away is waited for `away_seconds`; once that was in vain the operation waits no more.
        """
        name = act.verb if isinstance(act, HostVerb) else act.__name__
        known, index = self._next(name)
        result_type = act.result if isinstance(act, HostVerb) else result_of(act)
        if known is not None and known.state != "running":
            return cast(T, self._remembered(known, result_type))
        row = known or self._new_row(title, name, index, args, undo)
        if isinstance(act, HostVerb):
            row.host = act.target.host
        if known is None:
            with _parking:
                await self._runner.begin_step(self.row, self._kind, row, shows, found="redone" in marks(act))
        spans.note(title, where=_where(act))
        self._seen.append(row)
        with _parking:
            waits = Waits(patience_seconds, self.away_seconds, then)
            await self._runner.perform(self.row, row, act, args, waits)
            return cast(T, self._remembered(row, result_type))

    async def write(
        self,
        title: str,
        unit: Callable[..., T],
        *args: Any,
        undo: Callable[..., Awaitable[Any]] | None = None,
        shows: str | None = None,
    ) -> T:
        """What `unit(connection, *args)` returns; its effect and the journal line commit together."""
        name = getattr(unit, "__name__", "write")
        known, index = self._next(name)
        result_type = result_of(unit)
        if known is not None:
            return cast(T, self._remembered(known, result_type))
        row = self._new_row(title, name, index, args, undo)
        row.state = "finished"
        self._seen.append(row)
        with _parking:
            await self._runner.write_step(self.row, self._kind, row, unit, args, shows)
        return cast(T, self._remembered(row, result_type))

    async def write_with_next(
        self, title: str, unit: Callable[..., None], *args: Any, undo: Callable[..., Awaitable[Any]] | None = None
    ) -> None:
        """Like `write`, in the commit of the step or write that follows, before that acts. What it raises, that raises.

        For a write that nothing between needs to have happened.
        """
        name = unit.__name__
        known, index = self._next(name)
        if known is not None:
            self._remembered(known, None)
            return
        row = self._new_row(title, name, index, args, undo)
        row.state = "finished"
        self._seen.append(row)
        await self._runner.write_later(self.row, row, unit, args)

    async def finish(self, title: str, unit: Callable[..., Any], *args: Any) -> None:
        """The last write: the resource's end state and the operation's, in one transaction."""
        with _parking:
            await self._runner.finish(self.row, title, unit, args)
        self.finished = True

    def failed_before(self, act: Callable[..., Awaitable[Any]]) -> bool:
        """Whether the next turn of this step is one that a runner before this one took, and that failed: asked for, it
        fails at once, as it did."""
        name = act.verb if isinstance(act, HostVerb) else act.__name__
        known = self._known.get((name, self._counts.get(name, 0)))
        return known is not None and known.state == "failed"

    def mark(self) -> int:
        """A place to which `undo_since` can return."""
        return len(self._seen)

    async def undo_since(self, mark: int) -> None:
        """Undo the steps after `mark`, newest first: for a flow that tries the next host."""
        with _parking:
            for row in reversed(self._seen[mark:]):
                await self._runner.undo_step(self.row, self._kind, row)
        del self._seen[mark:]

    async def undo_superseded(self, operation_id: str) -> None:
        """Undo all of an operation that this one took the resource from."""
        with _parking:
            await self._runner.undo_superseded(self.row, operation_id)

    def _next(self, name: str) -> tuple[StepRow | None, int]:
        index = self._counts.get(name, 0)
        self._counts[name] = index + 1
        row = self._known.get((name, index))
        if row is not None and row.state != "running":
            self._seen.append(row)
        return row, index

    def _remembered(self, row: StepRow, result_type: Any) -> Any:
        if row.state == "failed" or (row.state == "undone" and row.error):
            fault = Fault.from_wire(row.error or {})
            if is_away(fault):  # waited for in vain: not waited for again, at the next host or in the next step
                self.away_seconds = 0.0
            raise fault
        if result_type in (None, type(None)):
            return None
        return msgspec.convert(row.result, result_type)

    def _new_row(
        self, title: str, name: str, index: int, args: tuple[Any, ...], undo: Callable[..., Awaitable[Any]] | None
    ) -> StepRow:
        self._position += 1
        described, arity = describe_undo(undo)
        return StepRow(
            operation_id=self.id,
            step=name,
            index=index,
            position=self._position,
            title=title,
            args=msgspec.to_builtins(list(args)),
            started_at=self._runner.world.clock.now(),
            undo=described,
            undo_arity=arity,
        )


class _Parking:
    """Our own database being away is no failure of the step: a flow that catches Faults, to try the next host, must
    not take it for one and undo what stands."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: type[BaseException] | None, error: BaseException | None, _where: Any) -> None:
        if isinstance(error, DatabaseAway):
            raise Parked(f"the database: {error!r}") from error


_parking: Final = _Parking()


def describe_undo(undo: Callable[..., Awaitable[Any]] | None) -> tuple[str, int]:
    """How an undo is journalled: its place and name, and how many arguments it takes."""
    if undo is None:
        return "", 0
    if isinstance(undo, HostVerb):
        to = undo.target
        return f"host:{to.exchange}:{to.type}:{to.host}:{undo.verb}", undo.arity
    return f"here:{undo.__name__}", len(parameters_of(undo)) - 1


def _where(act: Any) -> str:
    if isinstance(act, HostVerb):
        return repr(act)
    return f"{act.__module__.replace('.', '/')}.py:{act.__name__}"
