"""Placement alone, in this process: candidates over 10,000 providers, and claims by the batch.

`make bench BENCH=placement`. SQLite on disk, as embedded, and PostgreSQL beside it.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.world import LiveWorld
from kilonova.db.database import Database
from kilonova.db.migrations import ensure_current
from kilonova.db.server import server_database
from kilonova.db.sqlite import SqliteDatabase
from kilonova.http.client import AsgiTransport, Client
from kilonova.placement.client import PlacementClient
from kilonova.placement.contract import ClaimRequest
from kilonova.placement.core import PlacementService
from kilonova.placement.schema import inventory, provider, provider_trait
from kilonova.placement.service import MIGRATIONS, RULES, placement_app
from kilonova.policy.rules import Policy
from tests.api.support import FakeAuthenticator
from tests.bench.phases import Result
from tests.services import PostgreSQL

PROVIDERS = 10_000
BATCH = 64
WANTED = "/allocation_candidates?resources=VCPU:2,MEMORY_MB:4096,DISK_GB:40&required=COMPUTE_NODE"
_HEADERS = {"openstack-api-version": "placement 1.39", "x-auth-token": "service"}


class PlacementBench:
    """Ten thousand hosts in a database of its own; one claim happens before each search, as in a busy cloud."""

    def __init__(self, folder: Path, url: str = "") -> None:
        self._folder = folder
        self._url = url
        self._world = LiveWorld("bench")
        self.ids: list[str] = []

    async def open(self) -> None:
        """Make the providers."""
        self.db = await self._database()
        await ensure_current(self.db, MIGRATIONS)
        app = placement_app(PlacementService(self._world, self.db), FakeAuthenticator(), Policy(RULES))
        self._door = AsgiTransport(app)

        async def token() -> str:
            return "service"

        self.placement = PlacementClient(Client(self._door), token, self._world)
        self.ids = sorted(self._world.ids.uuid() for _ in range(PROVIDERS))
        await self.db.write(self._fill)
        await self.search("&limit=1")

    async def _database(self) -> Database:
        if self._url:
            return await server_database("placement", self._url, self._world)
        return SqliteDatabase("placement", self._folder / "placement.db", self._world.clock)

    def _fill(self, connection: Connection) -> None:
        for table in (provider, inventory, provider_trait):
            connection.execute(sa.delete(table))
        now = self._world.clock.now()
        rows: list[dict[str, Any]] = [
            {"id": id_, "name": f"host{n}", "generation": 0, "parent_id": None, "root_id": id_, "updated_at": now}
            for n, id_ in enumerate(self.ids)
        ]
        connection.execute(sa.insert(provider), rows)
        plain = {"reserved": 0, "min_unit": 1, "max_unit": 2147483647, "step_size": 1, "used": 0}
        books = (("VCPU", 128, 4.0), ("MEMORY_MB", 524288, 1.0), ("DISK_GB", 20000, 1.0))
        connection.execute(
            sa.insert(inventory),
            [
                {"provider_id": id_, "resource_class": name, "total": total, "allocation_ratio": ratio, **plain}
                for id_ in self.ids
                for name, total, ratio in books
            ],
        )
        traits = [
            {"provider_id": id_, "trait": name} for id_ in self.ids for name in ("COMPUTE_NODE", "HW_CPU_X86_VMX")
        ]
        connection.execute(sa.insert(provider_trait), traits)

    async def search(self, more: str = "") -> bytes:
        """One search; the answer's text."""
        reply = await self._door.send("GET", WANTED + more, _HEADERS, b"")
        assert reply.status == 200, reply.content[:500]
        return reply.content

    async def claims(self, count: int) -> None:
        """`count` claims in one batch, on random hosts; all must stand."""
        claims = [
            ClaimRequest(
                self._world.ids.uuid(),
                "project",
                "user",
                {self._world.random.choice(self.ids): {"VCPU": 1, "MEMORY_MB": 512, "DISK_GB": 1}},
            )
            for _ in range(count)
        ]
        assert all(result.stands for result in await self.placement.claim_many(claims))

    async def close(self) -> None:
        """Let go."""
        await self.db.close()
        await self._world.close()


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def _searches(bench: PlacementBench, phase: str, more: str, times: int) -> list[Result]:
    walls, spent = [], 0.0
    for _ in range(times):
        await bench.claims(1)
        began, used = time.perf_counter(), _cpu_seconds()
        await bench.search(more)
        walls.append((time.perf_counter() - began) * 1000)
        spent += _cpu_seconds() - used
    walls.sort()
    p99 = walls[min(len(walls) - 1, int(len(walls) * 0.99))]
    whole = sum(walls) / 1000
    return [Result(f"{phase}_p99", p99, times, whole), Result(f"{phase}_cpu", spent * 1000 / times, times, whole)]


async def _claims(bench: PlacementBench) -> list[Result]:
    batches = 50
    await bench.claims(BATCH)
    began, used = time.perf_counter(), _cpu_seconds()
    for _ in range(batches):
        await bench.claims(BATCH)
    wall, count = time.perf_counter() - began, batches * BATCH
    spent = (_cpu_seconds() - used) * 1e6 / count
    return [Result("claims", count / wall, count, wall), Result("claim_cpu", spent, count, wall)]


Part = Callable[[PlacementBench], Awaitable[list[Result]]]
PARTS: tuple[Part, ...] = (
    lambda bench: _searches(bench, "candidates_1000", "&limit=1000", 300),
    lambda bench: _searches(bench, "candidates_all", "", 100),
    _claims,
)


async def _once(url: str = "") -> list[Result]:
    with tempfile.TemporaryDirectory(prefix="kilonova-bench-") as folder:
        bench = PlacementBench(Path(folder), url)
        await bench.open()
        results = [result for part in PARTS for result in await part(bench)]
        await bench.close()
    return results


async def measure() -> list[Result]:
    """The results of all parts, on SQLite and on PostgreSQL."""
    results = await _once()
    with PostgreSQL() as server, server.database() as url:
        beside = {result.phase: result.value for result in await _once(url)}
    return [replace(result, postgresql=beside[result.phase]) for result in results]
