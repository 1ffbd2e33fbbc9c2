"""The smallest service with an operation on a host: a lamp is screwed in, then lit. It proves the ground before any
real service stands on it: saga, database, bus and the agent's ledger together.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import Fault, conflict
from kilonova.base.world import World
from kilonova.bus import rpc
from kilonova.bus.contract import Bus, Target
from kilonova.bus.steps import StepDriver
from kilonova.db.database import Database
from kilonova.node.ledger import StepServer
from kilonova.saga.hosts import FOREVER_SECONDS
from kilonova.saga.journal import Journal, OperationRow, Superseded
from kilonova.saga.operation import Kind, Operation, Step, host
from kilonova.saga.pace import Pace
from kilonova.saga.runner import Parts, Runner
from kilonova.saga.seal import Sealer
from kilonova.saga.seams import Seams

UNHURRIED = Pace()
metadata = sa.MetaData()
journal = Journal(metadata)
lamps = sa.Table(
    "lamp",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("task", sa.String(40), nullable=False),
    sa.Column("operation_id", sa.String(64), nullable=False),
    sa.Column("permit", sa.String(64), nullable=False),
)
permits = sa.Table("permit", metadata, sa.Column("lamp_id", sa.String(64), primary_key=True))


class LampHost(Protocol):
    async def screw_in(self, lamp_id: str) -> str: ...
    async def screw_out(self, lamp_id: str) -> None: ...
    async def light(self, lamp_id: str, socket: str) -> None: ...
    async def darken(self, lamp_id: str) -> None: ...


class Room(msgspec.Struct):
    """The machine: survives its agent's death."""

    sockets: dict[str, str] = {}
    lit: set[str] = set()
    work: dict[str, int] = {}
    refusals: dict[str, int] = {}  # how often each verb still fails


class RoomAgent:
    def __init__(self, world: World, room: Room) -> None:
        self.world, self.room = world, room

    async def _work(self, verb: str) -> None:
        await self.world.clock.sleep(self.world.random.random() * 2)
        if self.room.refusals.get(verb):
            self.room.refusals[verb] -= 1
            raise conflict(f"{verb} is stuck")
        self.room.work[verb] = self.room.work.get(verb, 0) + 1

    async def screw_in(self, lamp_id: str) -> str:
        await self._work("screw_in")
        return self.room.sockets.setdefault(lamp_id, f"socket-{len(self.room.sockets)}")

    async def screw_out(self, lamp_id: str) -> None:
        await self._work("screw_out")
        self.room.sockets.pop(lamp_id, None)

    async def light(self, lamp_id: str, socket: str) -> None:
        await self._work("light")
        if self.room.sockets.get(lamp_id) != socket:
            raise conflict(f"{lamp_id} is not in {socket}")
        self.room.lit.add(lamp_id)

    async def darken(self, lamp_id: str) -> None:
        await self._work("darken")
        self.room.lit.discard(lamp_id)


class Lamps(msgspec.Struct):
    db: Database


def on_host(room: str) -> LampHost:
    return host(LampHost, Target("house", "room", room))


def put_permit(connection: Connection, lamp_id: str) -> None:
    if connection.scalar(sa.select(permits).where(permits.c.lamp_id == lamp_id)) is None:
        connection.execute(permits.insert().values(lamp_id=lamp_id))


def drop_permit(connection: Connection, lamp_id: str) -> None:
    connection.execute(permits.delete().where(permits.c.lamp_id == lamp_id))


async def ask_permit(step: Step[Lamps], lamp_id: str) -> str:
    await step.services.db.write(put_permit, lamp_id)
    return f"permit-{lamp_id}"


async def return_permit(step: Step[Lamps], lamp_id: str) -> None:
    await step.services.db.write(drop_permit, lamp_id)


def note_permit(connection: Connection, lamp_id: str, permit: str) -> None:
    connection.execute(lamps.update().where(lamps.c.id == lamp_id).values(permit=permit))


async def light(op: Operation[Lamps], house: Lamps, lamp_id: str, room: str) -> None:
    """Screw in a lamp and light it."""
    there = on_host(room)
    permit = await op.step("the house permits it", ask_permit, lamp_id, undo=return_permit, shows="asking")
    await op.write("the permit is noted", note_permit, lamp_id, permit)
    socket = await op.step(
        "the room screws it in", there.screw_in, lamp_id, undo=there.screw_out, shows="screwing", patience_seconds=60
    )
    await op.step("the room lights it", there.light, lamp_id, socket, undo=there.darken, patience_seconds=60)
    await op.finish("lit", set_state, lamp_id, op.id, "lit")


async def remove(op: Operation[Lamps], house: Lamps, lamp_id: str, room: str, over: str) -> None:
    """Remove a lamp, whatever is being done to it."""
    there = on_host(room)
    if over:
        await op.undo_superseded(over)
    await op.step("the room darkens it", there.darken, lamp_id, patience_seconds=FOREVER_SECONDS)
    await op.step("the room screws it out", there.screw_out, lamp_id, patience_seconds=FOREVER_SECONDS)
    await op.step("the permit goes back", return_permit, lamp_id)
    await op.finish("removed", forget, lamp_id)


def set_state(connection: Connection, lamp_id: str, operation_id: str, state: str) -> None:
    mine = lamps.update().where(lamps.c.id == lamp_id, lamps.c.operation_id == operation_id)
    if not connection.execute(mine.values(state=state, task="", operation_id="")).rowcount:
        raise Superseded(operation_id)


def forget(connection: Connection, lamp_id: str) -> None:
    connection.execute(lamps.delete().where(lamps.c.id == lamp_id))


def show(connection: Connection, row: OperationRow, value: str) -> None:
    mine = lamps.update().where(lamps.c.id == row.resource_id, lamps.c.operation_id == row.id)
    if not connection.execute(mine.values(task=value)).rowcount:
        raise Superseded(row.id)


def failed(connection: Connection, row: OperationRow, fault: Fault) -> None:
    mine = lamps.update().where(lamps.c.id == row.resource_id, lamps.c.operation_id == row.id)
    connection.execute(mine.values(state="error", task="", operation_id=""))


KINDS = (
    Kind("light", light, failed, show, (return_permit,)),
    Kind("remove", remove, failed, show),
)


class Keeper(Protocol):
    """The conductor's topic."""

    @rpc.cast
    async def run_operation(self, operation_id: str) -> None: ...


class KeeperService:
    """What serves the topic `keeper`: operations wait, steps end."""

    def __init__(self, runner: Runner[Lamps]) -> None:
        self.runner = runner

    async def run_operation(self, operation_id: str) -> None:
        await self.runner.wake(operation_id)


async def start_keeper(
    world: World, db: Database, bus: Bus, sealer: Sealer, seams: Seams | None = None, pace: Pace = UNHURRIED
) -> Runner[Lamps]:
    parts = Parts(world, db, bus, journal, sealer, Target("house", "keeper"), "keeper", pace)
    runner = Runner(parts, Lamps(db), KINDS, seams)
    handlers = {**rpc.handlers(Keeper, KeeperService(runner)), **rpc.handlers(StepDriver, runner)}
    await bus.serve("house", "keeper", "", handlers)
    runner.start()
    return runner


async def start_room(world: World, ledger: Database, bus: Bus, room: Room, name: str = "attic") -> StepServer:
    server = StepServer(world, bus, ledger, LampHost, RoomAgent(world, room))
    await server.start(name)
    await bus.serve("house", "room", name, server.handlers())
    return server


def _begin(connection: Connection, kind: str, row: OperationRow) -> str:
    """The API's write: the lamp and its operation in one transaction. Returns the operation that it took over."""
    held = connection.scalar(sa.select(lamps.c.operation_id).where(lamps.c.id == row.resource_id))
    if kind == "light":
        values: dict[str, Any] = {"state": "dark", "task": "scheduling", "permit": "", "operation_id": row.id}
        connection.execute(lamps.insert().values(id=row.resource_id, **values))
    else:
        if held:
            journal.supersede(connection, held, row.created_at)
        row.args["over"] = held or ""
        connection.execute(lamps.update().where(lamps.c.id == row.resource_id).values(operation_id=row.id))
    journal.insert(connection, row)
    return held or ""


async def ask(world: World, db: Database, bus: Bus, kind: str, lamp_id: str, room: str = "attic") -> str:
    """What a user's request does: record, then cast."""
    row = OperationRow(
        world.ids.uuid(), kind, 1, lamp_id, {"lamp_id": lamp_id, "room": room}, "u", "p", "req", world.clock.now()
    )
    await db.write(_begin, kind, row)
    await rpc.client(Keeper, bus, Target("house", "keeper")).run_operation(row.id)
    return row.id
