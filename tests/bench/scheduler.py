"""The scheduler alone, in this process: placements among 5,000 hosts, with and without 100,000 servers on them, what
13,000 hosts cost that report every 30 s, and memory.

`make bench BENCH=scheduler`. The scheduler asks as a conductor in the same process does, placement through its door
(token, policy, JSON), decisions are kept, and both databases are SQLite on disk, as embedded.
"""

from __future__ import annotations

import asyncio
import resource
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.memory import give_back
from kilonova.base.world import LiveWorld
from kilonova.bus import rpc
from kilonova.bus.contract import Target
from kilonova.bus.memory import MemoryBroker, MemoryBus
from kilonova.bus.signing import DerivedKeys
from kilonova.compute.catalogue import StoredCatalogue
from kilonova.compute.conductor import ComputeConductor, inventories_of
from kilonova.compute.contract import (
    CONDUCTOR_TOPIC,
    DRY_RUN_MOST,
    EXCHANGE,
    Conductor,
    Flavor,
    HostReport,
    RequestSpec,
)
from kilonova.compute.core import Compute, Peers
from kilonova.compute.host.store import hosts
from kilonova.compute.scheduler.kept import DatabaseRecorder
from kilonova.compute.scheduler.resources import resources_of
from kilonova.compute.scheduler.view import DatabaseHosts
from kilonova.compute.scheduler.worker import SchedulerWorker
from kilonova.compute.server.store import servers
from kilonova.compute.service import MIGRATIONS as NOVA
from kilonova.compute.settings import ComputeSettings
from kilonova.db.migrations import ensure_current
from kilonova.db.sqlite import SqliteDatabase
from kilonova.placement.schema import allocation, consumer, inventory, provider, provider_trait
from kilonova.placement.service import MIGRATIONS as PLACEMENT
from kilonova.saga.seal import Sealer
from tests.api.placement.doors import placement_client, placement_door
from tests.bench.phases import Result

HOSTS = 5_000
SERVERS = 100_000
PLACEMENTS = 4_096
DECISIONS = 10 * DRY_RUN_MOST
ASKERS = 256  # create operations under way at once, each of which waits for its host
REPORTING = 13_000
REPORT_SECONDS = 30
FLAVOR = Flavor("2", "m1.small", 1, 2048, 20)
_FILLERS: dict[type, Any] = {sa.String: "", sa.Text: "", sa.Integer: 1, sa.Boolean: False, sa.JSON: {}}
_INSTALLED = datetime(2026, 1, 1, tzinfo=UTC)


class FastClock:
    """The machine's clock, some time ahead."""

    ahead_seconds = 0.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(time.time() + self.ahead_seconds, UTC)

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead_seconds

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def report_of(number: int) -> HostReport:
    """What a host of 64 CPUs and 256 GB tells."""
    name = f"node{number:05}"
    cpu_info = {"arch": "x86_64", "model": "EPYC", "vendor": "AMD", "features": ["aes", "avx2", "svm"] * 20,
                "topology": {"sockets": 1, "cores": 32, "threads": 2}}  # fmt: skip
    traits = ["COMPUTE_NODE", "HW_CPU_X86_SVM", "HW_CPU_X86_AVX2"]
    return HostReport(name, f"{name}.example", "QEMU", 7002000, 64, 262144, 4000, "10.0.0.1", cpu_info, traits)


class Cloud:
    """Placement and compute's database with hosts and servers in them, and a scheduler over both."""

    def __init__(self, folder: Path, hosts_: int) -> None:
        self.world = LiveWorld("bench")
        self.clock = FastClock()
        self.world.clock = self.clock
        self.books = SqliteDatabase("placement", folder / "placement.db", self.world.clock)
        self.nova = SqliteDatabase("nova", folder / "nova.db", self.world.clock)
        self.ids = sorted(self.world.ids.uuid() for _ in range(hosts_))

    async def open(self) -> None:
        """Make the hosts."""
        await ensure_current(self.books, PLACEMENT)
        await ensure_current(self.nova, NOVA)
        self.placement = placement_client(await placement_door(self.world, self.books), self.world)
        await self.books.write(self._providers)
        await self.nova.write(self._hosts)
        self.view = DatabaseHosts(self.world, self.nova, StoredCatalogue().zones_of_hosts, host_down_seconds=3600)
        self.scheduler = SchedulerWorker(self.world, self.placement, self.view, recorder=DatabaseRecorder(self.nova))

    def _providers(self, connection: Connection) -> None:
        reports = [report_of(n) for n in range(len(self.ids))]
        rows = [
            {"id": id_, "name": one.node, "generation": 2, "parent_id": None, "root_id": id_, "updated_at": _INSTALLED}
            for id_, one in zip(self.ids, reports, strict=True)
        ]
        connection.execute(sa.insert(provider), rows)
        settings = ComputeSettings()
        names = [(id_, one) for id_, one in zip(self.ids, reports, strict=True)]
        connection.execute(
            sa.insert(inventory),
            [
                {"provider_id": id_, "resource_class": name, "used": 0, **_fields(book)}
                for id_, one in names
                for name, book in inventories_of(one, settings).items()
            ],
        )
        traits = [{"provider_id": id_, "trait": trait} for id_, one in names for trait in one.traits]
        connection.execute(sa.insert(provider_trait), traits)

    def _hosts(self, connection: Connection) -> None:
        now = self.world.clock.now()
        rows = [
            {"name": one.host, "provider_id": id_, "report": _fields(one), "created_at": _INSTALLED, "reported_at": now}
            for id_, one in ((id_, report_of(n)) for n, id_ in enumerate(self.ids))
        ]
        connection.execute(sa.insert(hosts), rows)

    async def fill(self, count: int) -> None:
        """`count` servers, spread over the hosts, each with its claim."""
        ids = [self.world.ids.uuid() for _ in range(count)]
        await self.books.write(self._claims, ids)
        for start in range(0, count, 10_000):
            await self.nova.write(self._servers, list(enumerate(ids))[start : start + 10_000])
        # the books were written past placement: a scheduler that starts now reads them whole
        self.scheduler = SchedulerWorker(self.world, self.placement, self.view, recorder=DatabaseRecorder(self.nova))

    def _claims(self, connection: Connection, ids: list[str]) -> None:
        owner = {"generation": 1, "project_id": "project", "user_id": "user", "type": "INSTANCE"}
        connection.execute(sa.insert(consumer), [{"id": id_, "updated_at": _INSTALLED, **owner} for id_ in ids])
        wanted = resources_of(FLAVOR, {}, from_volume=False)
        connection.execute(
            sa.insert(allocation),
            [
                {"consumer_id": id_, "provider_id": self.ids[n % len(self.ids)], "resource_class": name, "used": used}
                for n, id_ in enumerate(ids)
                for name, used in wanted.items()
            ],
        )
        for name, used in wanted.items():
            here = inventory.c.resource_class == name
            more = used * (len(ids) // len(self.ids))
            connection.execute(sa.update(inventory).where(here).values(used=inventory.c.used + more))

    def _servers(self, connection: Connection, some: Any) -> None:
        row: dict[str, Any] = {}
        for column in servers.c:
            if not column.nullable and column.name != "number":
                kinds = [filler for kind, filler in _FILLERS.items() if isinstance(column.type, kind)]
                row[column.name] = kinds[0] if kinds else _INSTALLED
        row["vm_state"] = "active"
        connection.execute(
            sa.insert(servers),
            [{**row, "id": id_, "host": f"node{n % len(self.ids):05}"} for n, id_ in some],
        )

    async def place(self, count: int) -> tuple[float, float]:
        """`count` servers are sent somewhere; (seconds, CPU seconds)."""
        left = iter(range(count))

        async def ask() -> None:
            for _ in left:
                wanted = resources_of(FLAVOR, {}, from_volume=False)
                spec = RequestSpec(self.world.ids.uuid(), "project", "user", FLAVOR, wanted)
                assert await self.scheduler.select_destinations(spec)

        began, used = time.perf_counter(), _cpu_seconds()
        await asyncio.gather(*(ask() for _ in range(ASKERS)))
        return time.perf_counter() - began, _cpu_seconds() - used

    async def decide(self) -> float:
        """CPU seconds of a decision that claims nothing and keeps nothing."""
        wanted = resources_of(FLAVOR, {}, from_volume=False)
        used = _cpu_seconds()
        for _ in range(DECISIONS // DRY_RUN_MOST):
            spec = RequestSpec(self.world.ids.uuid(), "project", "user", FLAVOR, wanted)
            assert (await self.scheduler.could_boot(spec, DRY_RUN_MOST)).fits == DRY_RUN_MOST
        return (_cpu_seconds() - used) / DECISIONS

    async def close(self) -> None:
        """Let go."""
        await self.scheduler.close()
        await self.books.close()
        await self.nova.close()
        await self.world.close()


def _fields(struct: Any) -> dict[str, Any]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _memory_mib() -> float:
    """The most that this process had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def _placements(folder: Path) -> list[Result]:
    cloud = Cloud(folder, HOSTS)
    await cloud.open()
    await cloud.place(ASKERS)
    give_back()  # as every process of the cloud does when it stands
    empty_wall, _ = await cloud.place(PLACEMENTS)
    early_decision = await cloud.decide()  # among hosts that differ already, so that each weigher has work
    await cloud.fill(SERVERS)
    await cloud.place(ASKERS)
    give_back()
    decision = await cloud.decide()
    wall, cpu = await cloud.place(PLACEMENTS)
    await cloud.close()
    return [
        Result("place_empty", PLACEMENTS / empty_wall, PLACEMENTS, empty_wall),
        Result("place", PLACEMENTS / wall, PLACEMENTS, wall),
        Result("place_cpu", cpu * 1000 / PLACEMENTS, PLACEMENTS, wall),
        Result("decide_cpu", decision * 1_000_000, DECISIONS),
        Result("decide_growth", decision / early_decision, DECISIONS),
        Result("place_memory", _memory_mib(), SERVERS, wall),
    ]


async def _reports(folder: Path) -> list[Result]:
    """Thirty seconds of all hosts' reports over the bus, with a scheduler that follows them second by second.

    Before, each host reported once, spread over the five minutes after which its provider is looked at again.
    """
    cloud = Cloud(folder, REPORTING)
    await cloud.open()
    broker, keys = MemoryBroker(), DerivedKeys(b"bench")
    bus = MemoryBus(cloud.world, broker, "conductor.ctl", keys)
    nothing: Any = None

    async def own_token() -> str:
        return "service"

    peers = Peers(cloud.placement, nothing, nothing, nothing, own_token)
    compute = Compute(cloud.world, cloud.nova, bus, Sealer([Sealer.new_key()]), peers, StoredCatalogue())
    conductor = ComputeConductor(compute)
    subscription = await bus.serve(EXCHANGE, CONDUCTOR_TOPIC, "", rpc.handlers(Conductor, conductor))
    told = [report_of(number) for number in range(REPORTING)]
    agents = [
        rpc.client(Conductor, MemoryBus(cloud.world, broker, f"compute.{one.host}", keys),
                   Target(EXCHANGE, CONDUCTOR_TOPIC)) for one in told
    ]  # fmt: skip

    async def everybody(seconds: float) -> None:
        """All hosts report once, a second's worth of them at a time."""
        each = round(REPORTING / seconds) + 1
        for start in range(0, REPORTING, each):
            some = range(start, min(start + each, REPORTING))
            for number in some:
                told[number].vcpus_used += 1
            await asyncio.gather(*(agents[number].report_host(told[number]) for number in some))
            cloud.clock.ahead_seconds += 1
            await cloud.view.current()

    await everybody(300)
    give_back()
    began, used = time.perf_counter(), _cpu_seconds()
    await everybody(REPORT_SECONDS)
    wall, spent = time.perf_counter() - began, _cpu_seconds() - used
    await subscription.close()
    await cloud.close()
    return [Result("reports", spent * 1000 / REPORT_SECONDS, REPORTING, wall)]


async def measure() -> list[Result]:
    """The results of both parts."""
    with tempfile.TemporaryDirectory(prefix="kilonova-bench-") as first:
        results = await _placements(Path(first))
    with tempfile.TemporaryDirectory(prefix="kilonova-bench-") as second:
        return results + await _reports(Path(second))
