"""The phases: each does one operation many times and says what it cost the cloud's process.

Requests are measured as OpenStack's were: one at a time, then eight at a time."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.bench import images
from tests.bench.load import Driver
from tests.bench.process import cpu_seconds, pss_mib
from tests.fake_cloud import ROOT, FakeCloud


@dataclass
class Result:
    """What one phase measured; `value` is in the unit of its promise, one at a time; `eight` is the same when eight are
    asked at a time, `postgresql` the same on that database."""

    phase: str
    value: float
    operations: int = 1
    wall_seconds: float = 0.0
    postgresql: float | None = None
    eight: float | None = None


@dataclass
class Bench:
    """A cloud under load."""

    cloud: FakeCloud
    driver: Driver
    pid: int
    image_id: str = ""
    image_peak: float = 0.0

    async def cost(
        self, phase: str, operations: int, one: Callable[[int], Awaitable[Any]], *, eight: bool = True
    ) -> Result:
        """CPU milliseconds per operation, one after the other, then by `eight` callers; the cloud's background work is
        in it."""
        await one(-1)
        began = time.monotonic()
        alone = await self._spent(operations, one, 1)
        wall = time.monotonic() - began
        return Result(phase, alone, operations, wall, eight=await self._spent(operations, one, 8) if eight else None)

    async def _spent(self, operations: int, one: Callable[[int], Awaitable[Any]], callers: int) -> float:
        """CPU milliseconds of the cloud per operation, of which so many are under way at a time."""
        numbers = iter(range(operations))

        async def caller() -> None:
            for number in numbers:
                await one(number)

        used = cpu_seconds(self.pid)
        await asyncio.gather(*(caller() for _ in range(callers)))
        return (cpu_seconds(self.pid) - used) * 1000 / operations

    async def memory(self) -> Result:
        """The process' PSS in MiB, at rest."""
        await asyncio.sleep(3)
        return Result("memory", pss_mib(self.pid))

    async def login(self) -> Result:
        """A token by password, from verifying it to the catalog."""
        return await self.cost("login", 60, lambda _: self.driver.login())

    async def validate(self) -> Result:
        """GET /v3/auth/tokens of a token, without its catalog."""
        subject = {"X-Subject-Token": self.driver.token}
        path = "/identity/v3/auth/tokens?nocatalog"
        return await self.cost("validate", 2000, lambda _: self.driver.ask("GET", path, headers=subject))

    async def image_list(self) -> Result:
        """GET /v2/images."""
        return await self.cost("image_list", 1000, lambda _: self.driver.ask("GET", "/image/v2/images"))

    async def image_list_1000(self) -> Result:
        """GET /v2/images?limit=1000."""
        self.image_id = await images.make_images(self.driver, 1000)
        path = "/image/v2/images?limit=1000"
        return await self.cost("image_list_1000", 30, lambda _: self.driver.ask("GET", path))

    async def image_show(self) -> Result:
        """GET /v2/images/{id}."""
        self.image_id = self.image_id or await images.make_images(self.driver, 1)
        path = f"/image/v2/images/{self.image_id}"
        return await self.cost("image_show", 1500, lambda _: self.driver.ask("GET", path))

    async def image_upload(self) -> Result:
        """PUT /v2/images/{id}/file: 1 GB, two hashes, inspection, fsync; the middle one of three.

        Memory that a virtual machine has never used costs it a second for each gigabyte that comes into its file
        system's cache, and nobody chooses which memory that is."""
        results = []
        for _ in range(3):
            if results:
                await self.driver.ask("DELETE", f"/image/v2/images/{self.image_id}")
            if results or not self.image_id:
                self.image_id = await images.make_images(self.driver, 1)
            cpu, wall, peak = await images.upload(self.driver, self.pid, self.image_id)
            self.image_peak = max(self.image_peak, peak)
            results.append((cpu, wall))
        cpu, wall = sorted(results)[1]
        return Result("image_upload", cpu, 1, wall)

    async def image_memory(self) -> Result:
        """The process' most PSS in MiB while that gigabyte came."""
        return Result("image_memory", self.image_peak)

    async def image_download(self) -> Result:
        """GET /v2/images/{id}/file: 1 GB."""
        cpu, wall = await images.download(self.driver, self.pid, self.image_id)
        return Result("image_download", cpu, 1, wall)

    async def port_create(self) -> Result:
        """POST /v2.0/ports: an address from a subnet, the default security group."""
        body = {"port": {"network_id": self.driver.network}}
        return await self.cost("port_create", 200, lambda _: self.driver.ask("POST", "/network/v2.0/ports", body))

    async def create(self) -> Result:
        """POST /servers to ACTIVE with one port; a poll every 50 ms is in it."""
        return await self.cost("create", 200, lambda number: self.driver.boot(f"one-{number}"), eight=False)

    async def get(self) -> Result:
        """GET /servers/{id}."""
        server_id = await self.driver.boot("shown")
        path = f"/compute/v2.1/servers/{server_id}"
        return await self.cost("get", 2000, lambda _: self.driver.ask("GET", path))

    async def delete(self) -> Result:
        """DELETE /servers/{id} until it is gone; a poll every 50 ms is in it."""
        ids = [await self.driver.boot(f"gone-{number}") for number in range(151)]
        return await self.cost("delete", 150, lambda _: self.driver.delete(ids.pop()), eight=False)

    async def burst(self) -> Result:
        """100 boots asked for by 16 at a time: servers per second until the last is ACTIVE."""
        before = await self.driver.count("ACTIVE")
        gate = asyncio.Semaphore(16)
        began = time.monotonic()

        async def one(number: int) -> None:
            async with gate:
                await self.driver.create(f"burst-{number}")

        await asyncio.gather(*(one(number) for number in range(100)))
        await self.driver.until_active(before + 100)
        wall = time.monotonic() - began
        return Result("burst", 100 / wall, 100, wall)

    async def list_1000(self) -> Result:
        """GET /servers/detail of 1000 servers, in one page."""
        while missing := 1000 - await self.driver.count():
            await self.driver.create("crowd", min(100, missing))
        await self.driver.until_active(1000)
        path = "/compute/v2.1/servers/detail?limit=1000"
        return await self.cost("list_1000", 25, lambda _: self.driver.ask("GET", path))

    async def idle(self) -> Result:
        """CPU milliseconds per second with whatever was made, while nobody asks anything."""
        used, began = cpu_seconds(self.pid), time.monotonic()
        await asyncio.sleep(15)
        wall = time.monotonic() - began
        return Result("idle", (cpu_seconds(self.pid) - used) * 1000 / wall, 1, wall)

    async def restart(self) -> Result:
        """Seconds from `up` with this state to the first answered login."""
        await asyncio.to_thread(self.cloud.down)
        began = time.monotonic()
        command = [sys.executable, "-m", "kilonova.cli.main", "up", "--detach", "--state", str(self.cloud.state)]
        door = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=subprocess.DEVNULL)
        while True:
            try:
                self.driver.token = await self.driver.login()
                break
            except aiohttp.ClientConnectionError:  # nothing listens yet
                await asyncio.sleep(0.02)
        wall = time.monotonic() - began
        await door.wait()
        self.pid = self.cloud.pid
        return Result("restart", wall, 1, wall)


IMAGE = ("image_list", "image_show", "image_list_1000", "image_upload", "image_memory", "image_download")
# `restart` is last: a cloud that has just started looks after its thousand servers beside what it is asked
ORDER = ("memory", "login", "validate", *IMAGE, "port_create", "create", "get", "delete", "burst", "list_1000",
         "idle", "restart")  # fmt: skip
