"""Four scheduler processes on one PostgreSQL: ten thousand requests for seven thousand places leave exact books."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from contextlib import ExitStack
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.world import LiveWorld
from kilonova.compute.contract import HostReport
from kilonova.compute.host import store as hosts
from kilonova.compute.scheduler import explain, kept
from kilonova.compute.scheduler.rules import SchedulerSettings
from kilonova.compute.service import MIGRATIONS
from kilonova.db.database import Database
from kilonova.db.migrations import ensure_current
from kilonova.db.server import server_database
from kilonova.placement.contract import Inventory
from kilonova.placement.schema import allocation, inventory
from tests.api.placement.doors import placement_client, placement_door
from tests.contract.scheduler_process import WANTED
from tests.fake_cloud import ROOT
from tests.services import PostgreSQL

SCHEDULERS = 4
REQUESTS = 10_000
HOSTS = 100
PLACES = 70  # on each host: half of them are short of CPUs, half of memory
AT_ONCE = 96


@pytest.mark.cluster
async def test_four_processes_and_ten_thousand_requests(postgresql: PostgreSQL) -> None:
    world = LiveWorld("many-schedulers")
    with ExitStack() as stack:
        urls = {name: stack.enter_context(postgresql.database()) for name in ("placement", "nova")}
        books, nova = [await server_database(name, url, world) for name, url in urls.items()]
        await _fill(world, books, nova)
        servers = [world.ids.uuid() for _ in range(REQUESTS)]
        ended = await _all_at_once(urls, servers)
        assert ended == {"placed": HOSTS * PLACES, "refused": REQUESTS - HOSTS * PLACES}
        await _books_are_exact(books)
        decisions = [one for id_ in servers[::97] for one in await nova.read(kept.found, id_)]
        assert [one.server_id for one in decisions] == servers[::97], "each is explained, once"
        lost = [sum(why.filter == explain.LOST for why in one.rejections) for one in decisions]
        assert max(lost) <= SchedulerSettings().claim_attempts + 1
        await books.close()
        await nova.close()
    await world.close()


async def _fill(world: LiveWorld, books: Database, nova: Database) -> None:
    await ensure_current(nova, MIGRATIONS)
    placement = placement_client(await placement_door(world, books), world)
    for number in range(HOSTS):
        name, id_ = f"node{number}", world.ids.uuid()
        vcpus, memory_mb = (PLACES, 100 * 512) if number % 2 else (100, PLACES * 512 + 511)
        await placement.ensure_provider(id_, name, {"VCPU": Inventory(vcpus), "MEMORY_MB": Inventory(memory_mb)}, [])
        said = HostReport(name, name, "QEMU", 1, vcpus, memory_mb, 0, "10.0.0.1", {"arch": "x86_64"})
        await nova.write(hosts.report, said, id_, world.clock.now())


async def _all_at_once(urls: dict[str, str], servers: list[str]) -> Counter[str]:
    """How the requests ended, each sent to one of the processes."""
    processes = []
    for number in range(SCHEDULERS):
        asked = {**urls, "servers": servers[number::SCHEDULERS], "at_once": AT_ONCE}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.contract.scheduler_process"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
            limit=1 << 20,
        )
        process.stdin.write(json.dumps(asked).encode() + b"\n")  # type: ignore[union-attr]
        processes.append(process)
    try:
        for process in processes:
            assert await _line(process) == b"ready\n"
        for process in processes:
            process.stdin.write(b"go\n")  # type: ignore[union-attr]
        ended: Counter[str] = Counter()
        for process in processes:
            ended += Counter(json.loads(await _line(process)))
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
            await process.wait()
    return ended


async def _line(process: Any) -> bytes:
    async with asyncio.timeout(400):
        line: bytes = await process.stdout.readline()
    return line


async def _books_are_exact(books: Database) -> None:
    counted, held, consumers = await books.read(_read)
    assert counted == held, "what is counted as used is what is held"
    by_class: Counter[str] = Counter()
    for (_, name), used in held.items():
        by_class[name] += used
    assert by_class == {name: amount * HOSTS * PLACES for name, amount in WANTED.items()}
    assert {used for (_, name), used in held.items() if name == "VCPU"} == {PLACES}, "every host is exactly full"
    assert consumers == HOSTS * PLACES


def _read(connection: Connection) -> tuple[dict[Any, int], dict[Any, int], int]:
    i, a = inventory.c, allocation.c
    counted = connection.execute(sa.select(i.provider_id, i.resource_class, i.used))
    held = connection.execute(
        sa.select(a.provider_id, a.resource_class, sa.func.sum(a.used)).group_by(a.provider_id, a.resource_class)
    )
    consumers = connection.scalar(sa.select(sa.func.count(sa.distinct(a.consumer_id))))
    return (
        {(row[0], row[1]): row[2] for row in counted},
        {(row[0], row[1]): int(row[2]) for row in held},
        consumers or 0,
    )
