"""The lamp service as processes of an operating system: a keeper, or a room's agent, until killed.

    python -m tests.laws.lamp_process '{"role": "keeper", "name": "keeper1", …}'

A file `die` in the house's directory holds orders, one per line (`keeper before light`, `agent worked screw_in`); the
first process that comes to such a place takes the order away and kills itself there, as kill -9 does.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sqlite3
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from kilonova.base.faults import conflict
from kilonova.base.world import LiveWorld
from kilonova.bus.amqp import AmqpBus
from kilonova.bus.contract import Json, Target
from kilonova.bus.signing import DerivedKeys
from kilonova.db.server import ServerDatabase
from kilonova.db.sqlite import SqliteDatabase
from kilonova.node.ledger import StepServer
from kilonova.saga.journal import OperationRow, StepRow
from kilonova.saga.pace import Pace
from kilonova.saga.seal import Sealer
from tests.laws import lamp

SECRET = b"house"
QUICK = Pace(sweep_seconds=0.4, silence_seconds=1.0, stuck_retry_seconds=0.5, undo_patience_seconds=5.0)
LEASE_SECONDS = 2.0


class Part(msgspec.Struct):
    """Which part of the house a process plays."""

    role: str  # keeper | agent
    name: str
    directory: str
    broker_url: str
    database_url: str
    seal_key: str
    work_seconds: float = 0.2


def die_here(directory: Path, place: str) -> None:
    """Kill this process if an order says so; each order is obeyed once."""
    orders = directory / "die"
    try:
        lines = orders.read_text().splitlines()
    except FileNotFoundError:
        return
    if place in lines:
        taken = directory / f"died {place}"
        try:
            taken.open("x").close()
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)


class DeadlySeams:
    """Obeys orders for keepers."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    async def before(self, row: OperationRow, step: StepRow, phase: str) -> None:
        die_here(self.directory, f"keeper before {step.step}")

    async def after(self, row: OperationRow, step: StepRow, phase: str) -> None:
        die_here(self.directory, f"keeper after {step.step}")

    def times(self, step: StepRow, phase: str) -> int:
        return 1


class DeadlyBus(AmqpBus):
    """Obeys `agent telling`: the work is done and in the ledger, its end is never told."""

    directory: Path

    async def cast(self, to: Target, method: str, args: Mapping[str, Json], *, deadline_seconds: float = 0.0) -> None:
        if method == "step_done":
            die_here(self.directory, "agent telling")
        await super().cast(to, method, args, deadline_seconds=deadline_seconds)


def open_room(directory: Path) -> sqlite3.Connection:
    """The machine: what is screwed in, what is lit, what was ever done. It survives its agent's death."""
    room = sqlite3.connect(directory / "room.sqlite", timeout=20, isolation_level=None)
    room.execute("PRAGMA journal_mode=WAL")
    room.execute("PRAGMA synchronous=FULL")
    room.execute("CREATE TABLE IF NOT EXISTS socket (lamp TEXT PRIMARY KEY, name TEXT NOT NULL)")
    room.execute("CREATE TABLE IF NOT EXISTS lit (lamp TEXT PRIMARY KEY)")
    room.execute("CREATE TABLE IF NOT EXISTS work (verb TEXT, lamp TEXT)")
    return room


class MachineRoom:
    """LampHost on a room that is a file."""

    def __init__(self, world: LiveWorld, directory: Path, work_seconds: float) -> None:
        self.world, self.directory, self.work_seconds = world, directory, work_seconds
        self.room = open_room(directory)

    async def _work(self, verb: str, lamp_id: str, *statements: tuple[str, tuple[str, ...]]) -> None:
        die_here(self.directory, f"agent before {verb}")
        await self.world.clock.sleep(self.world.random.random() * self.work_seconds)
        self.room.execute("BEGIN IMMEDIATE")
        self.room.execute("INSERT INTO work VALUES (?, ?)", (verb, lamp_id))
        for statement, values in statements:
            self.room.execute(statement, values)
        self.room.execute("COMMIT")
        die_here(self.directory, f"agent worked {verb}")

    def _socket(self, lamp_id: str) -> str:
        found = self.room.execute("SELECT name FROM socket WHERE lamp = ?", (lamp_id,)).fetchone()
        return str(found[0]) if found else ""

    async def screw_in(self, lamp_id: str) -> str:
        insert = "INSERT OR IGNORE INTO socket VALUES (?, ?)"
        await self._work("screw_in", lamp_id, (insert, (lamp_id, f"socket-{self.world.ids.uuid()[:8]}")))
        return self._socket(lamp_id)

    async def screw_out(self, lamp_id: str) -> None:
        await self._work("screw_out", lamp_id, ("DELETE FROM socket WHERE lamp = ?", (lamp_id,)))

    async def light(self, lamp_id: str, socket: str) -> None:
        if self._socket(lamp_id) != socket:
            raise conflict(f"{lamp_id} is not in {socket}")
        await self._work("light", lamp_id, ("INSERT OR IGNORE INTO lit VALUES (?)", (lamp_id,)))

    async def darken(self, lamp_id: str) -> None:
        await self._work("darken", lamp_id, ("DELETE FROM lit WHERE lamp = ?", (lamp_id,)))


async def keep(part: Part) -> None:
    """A keeper: it runs operations."""
    world = LiveWorld(part.name)
    lamp.journal.lease_seconds = LEASE_SECONDS
    bus = AmqpBus(world, [part.broker_url], "keeper", DerivedKeys(SECRET))
    db = ServerDatabase("house", part.database_url, world, idle_seconds=1)
    await db.read(lambda connection: connection.execute(sa.text("SELECT 1")).scalar_one())
    await lamp.start_keeper(world, db, bus, Sealer([part.seal_key]), DeadlySeams(Path(part.directory)), QUICK)


async def act(part: Part) -> None:
    """A room's agent: it does steps."""
    world = LiveWorld(part.name)
    directory = Path(part.directory)
    bus = DeadlyBus(world, [part.broker_url], f"room.{part.name}", DerivedKeys(SECRET))
    bus.directory = directory
    ledger = SqliteDatabase("ledger", directory / "ledger.sqlite", world.clock, survives_power_cut=False)
    room: Any = MachineRoom(world, directory, part.work_seconds)
    server = StepServer(world, bus, ledger, lamp.LampHost, room, progress_seconds=0.4)
    await server.start(part.name)
    await bus.serve("house", "room", part.name, server.handlers())


async def main(part: Part) -> None:
    """Say `ready` once it serves, then live."""
    await (keep if part.role == "keeper" else act)(part)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    asyncio.run(main(msgspec.json.decode(sys.argv[1], type=Part)))
