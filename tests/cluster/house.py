"""A house of real processes: two keepers and a room's agent over RabbitMQ and a database server, ready to be killed."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from kilonova.base.world import LiveWorld
from kilonova.bus.amqp import AmqpBus
from kilonova.bus.signing import DerivedKeys
from kilonova.db.database import DatabaseAway
from kilonova.db.server import ServerDatabase
from kilonova.saga.seal import Sealer
from tests.laws import lamp
from tests.laws.lamp_process import SECRET, Part, open_room
from tests.services import RabbitMQ

# A child that is to die with its parent dies with the parent's thread: one that lives to the end starts them all.
_starter = ThreadPoolExecutor(1, thread_name_prefix="house-starter")
ROOT = Path(__file__).parents[2]


class House:
    """Its processes; `keepers` by name, one `agent`."""

    def __init__(self, directory: Path, broker: RabbitMQ, server: Any, database_url: str) -> None:
        self.directory, self.broker, self.server, self.database_url = directory, broker, server, database_url
        self.room = f"attic-{directory.name}-{broker.port}"
        self.seal_key = Sealer.new_key()
        self.keepers: dict[str, subprocess.Popen[bytes]] = {}
        self.agent: subprocess.Popen[bytes] | None = None
        self.born = 0

    def spawn(self, role: str, name: str) -> subprocess.Popen[bytes]:
        """A new process; it dies with the test run."""
        part = Part(role, name, str(self.directory), self.broker.url, self.database_url, self.seal_key)
        log = (self.directory / f"{name}.log").open("ab")
        command = [sys.executable, "-m", "tests.laws.lamp_process", msgspec.json.encode(part).decode()]
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command], cwd=ROOT, stdout=subprocess.PIPE, stderr=log
        )
        log.close()
        return process

    def fill(self) -> None:
        """Start whoever is missing, together, and return when all are ready."""
        started = []
        self.keepers = {name: one for name, one in self.keepers.items() if one.poll() is None}
        while len(self.keepers) < 2:
            self.born += 1
            name = f"keeper{self.born}"
            self.keepers[name] = self.spawn("keeper", name)
            started.append(self.keepers[name])
        if self.agent is None or self.agent.poll() is not None:
            self.agent = self.spawn("agent", self.room)
            started.append(self.agent)
        for process in started:
            assert process.stdout is not None
            if process.stdout.readline() != b"ready\n":
                logs = "".join(one.read_text()[-2000:] for one in self.directory.glob("*.log"))
                assert process.poll() == -signal.SIGKILL, logs

    async def tend(self) -> None:
        """Start again whoever died, without stopping the test."""
        await asyncio.get_running_loop().run_in_executor(_starter, self.fill)

    def order(self, *places: str) -> None:
        """Let the first process at each place kill itself there, once."""
        for old in self.directory.glob("died *"):
            old.unlink()
        (self.directory / "die").write_text("\n".join(places))

    def died(self) -> set[str]:
        """Orders that were obeyed."""
        return {one.name.removeprefix("died ") for one in self.directory.glob("died *")}

    def kill_keepers(self) -> None:
        for one in self.keepers.values():
            one.kill()
            one.wait()

    def kill_agent(self) -> None:
        if self.agent is not None:
            self.agent.kill()
            self.agent.wait()

    def close(self) -> None:
        self.kill_keepers()
        self.kill_agent()

    @asynccontextmanager
    async def door(self) -> AsyncIterator[Door]:
        """Where a user asks, and an examiner looks."""
        self.order()
        await self.tend()
        world = LiveWorld("api")
        bus = AmqpBus(world, [self.broker.url], "api", DerivedKeys(SECRET))
        db = ServerDatabase("house", self.database_url, world)
        door = Door(self, world, bus, db)
        try:
            yield door
        finally:
            await bus.close()
            await db.close()
            await world.close()


class Door:
    """A user's and an examiner's way in."""

    unfinished = sa.select(lamp.journal.operations).where(lamp.journal.operations.c.state.not_in(("done", "failed")))

    def __init__(self, house: House, world: LiveWorld, bus: AmqpBus, db: ServerDatabase) -> None:
        self.house, self.world, self.bus, self.db = house, world, bus, db

    async def ask(self, kind: str, lamp_id: str) -> str:
        return await lamp.ask(self.world, self.db, self.bus, kind, lamp_id, self.house.room)

    async def operations(self, statement: Any = unfinished) -> list[dict[str, Any]]:
        return await self.db.read(lambda c: [dict(row) for row in c.execute(statement).mappings()])

    async def wait(self, seconds: float, condition: Any) -> None:
        """Until `condition()` (maybe async) is true; dead processes are started again by others, not here."""
        end = self.world.clock.monotonic() + seconds
        while True:
            found = condition()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return
            assert self.world.clock.monotonic() < end, f"not within {seconds} s: {await self.operations()}"
            await self.world.clock.sleep(0.05)

    async def settle(self, seconds: float = 30) -> None:
        """Until nothing is unfinished; whoever dies is started again."""
        end = self.world.clock.monotonic() + seconds
        while True:
            await self.house.tend()
            try:
                left = await self.operations()
            except DatabaseAway:
                left = [{"database": "away"}]
            if not left:
                return
            assert self.world.clock.monotonic() < end, f"unfinished after {seconds} s: {left}"
            await self.world.clock.sleep(0.1)

    async def states(self) -> dict[str, str]:
        rows = await self.operations(sa.select(lamp.lamps))
        return {row["id"]: row["state"] for row in rows}

    async def journal(self) -> Any:
        """Everything that is written about operations."""
        steps = await self.operations(sa.select(lamp.journal.steps))
        return await self.operations(sa.select(lamp.journal.operations)), steps

    def done(self, verb: str, lamp_id: str) -> int:
        """How often the room did it."""
        with open_room(self.house.directory) as room:
            counted = room.execute("SELECT count(*) FROM work WHERE verb = ? AND lamp = ?", (verb, lamp_id))
            return int(counted.fetchone()[0])

    async def check_books(self) -> None:
        """What the database says and what the room holds agree; nothing is half done or left over."""
        rows = await self.operations(sa.select(lamp.lamps))
        permits = {row["lamp_id"] for row in await self.operations(sa.select(lamp.permits))}
        with open_room(self.house.directory) as room:
            sockets = {one for (one,) in room.execute("SELECT lamp FROM socket")}
            burning = {one for (one,) in room.execute("SELECT lamp FROM lit")}
        lit = {row["id"] for row in rows if row["state"] == "lit"}
        assert {row["state"] for row in rows} <= {"lit", "error"}
        assert {row["task"] for row in rows} <= {""}
        assert burning == lit
        assert sockets == lit
        assert permits == lit
