"""Images: a list of a thousand, one, and a gigabyte in and out, with the memory that it takes."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator

from tests.bench.load import Driver
from tests.bench.process import cpu_seconds, pss_mib

GIGABYTE = 10**9  # as the promise says, not 2**30
PIECE = random.Random(1).randbytes(1 << 20)


async def _gigabyte() -> AsyncIterator[bytes]:
    for start in range(0, GIGABYTE, len(PIECE)):
        yield PIECE[: GIGABYTE - start]


async def make_images(driver: Driver, count: int) -> str:
    """So many images; the id of the last."""
    body = {"name": "bench", "disk_format": "raw", "container_format": "bare", "os_distro": "debian"}
    image_id = ""
    for number in range(count):
        made = await driver.ask("POST", "/image/v2/images", {**body, "name": f"bench-{number}"})
        image_id = str(made["id"])
    return image_id


async def upload(driver: Driver, pid: int, image_id: str) -> tuple[float, float, float]:
    """(CPU seconds, wall seconds, most MiB of memory over what the process had) of a gigabyte going in."""
    rest = pss_mib(pid)
    peak = rest
    headers = {"X-Auth-Token": driver.token, "Content-Type": "application/octet-stream"}
    headers["Content-Length"] = str(GIGABYTE)
    used, began = cpu_seconds(pid), time.monotonic()
    sending = asyncio.ensure_future(
        driver.send("PUT", f"/image/v2/images/{image_id}/file", data=_gigabyte(), headers=headers)
    )
    while not sending.done():
        await asyncio.wait([sending], timeout=0.5)
        peak = max(peak, pss_mib(pid))
    if (answer := sending.result()).status != 204:
        raise RuntimeError(f"upload: {answer.status} {answer.content[:300]!r}")
    return cpu_seconds(pid) - used, time.monotonic() - began, peak


async def download(driver: Driver, pid: int, image_id: str) -> tuple[float, float]:
    """(CPU seconds, wall seconds) of a gigabyte coming out."""
    used, began, got = cpu_seconds(pid), time.monotonic(), 0
    headers = {"X-Auth-Token": driver.token}
    async with driver.http.get(f"/image/v2/images/{image_id}/file", headers=headers) as answer:
        async for chunk in answer.content.iter_any():
            got += len(chunk)
    if got != GIGABYTE:
        raise RuntimeError(f"{got} bytes came of {GIGABYTE}")
    return cpu_seconds(pid) - used, time.monotonic() - began
