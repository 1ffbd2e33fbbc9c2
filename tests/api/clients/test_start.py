"""What a cloud in one process loads, and what it keeps in memory: after its very first start as after any other."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from kilonova.cli.serve import TRIM_SECONDS
from tests.fake_cloud import ROOT, FakeCloud, fake_cloud

PROMISED_MB = 120
HEADROOM_MB = 20  # for a machine on which nothing else shares our pages
UNWANTED = (
    "alembic", "pamqp", "sqlalchemy.dialects.postgresql", "sqlalchemy.dialects.mysql", "pyroute2", "libvirt",
    "pycdlib",
)  # fmt: skip


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeCloud]:
    with fake_cloud(tmp_path_factory.mktemp("start") / "state", "--uplink", "none") as cloud:
        yield cloud


def memory_mb(cloud: FakeCloud) -> int:
    """Proportional memory of the cloud's process, once it has nothing to do."""
    time.sleep(5)
    rollup = Path(f"/proc/{cloud.pid}/smaps_rollup").read_text().splitlines()
    return int(next(line for line in rollup if line.startswith("Pss:")).split()[1]) // 1024


def log_in_thirty_times(cloud: FakeCloud) -> None:
    user = {"name": "admin", "domain": {"id": "default"}, "password": cloud.secrets["admin_password"]}
    body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}}}

    async def log_in() -> None:
        async with httpx.AsyncClient(timeout=60) as client:
            asked = [client.post(f"{cloud.url}/identity/v3/auth/tokens", json=body) for _ in range(30)]
            assert {reply.status_code for reply in await asyncio.gather(*asked)} == {201}

    asyncio.run(log_in())


def test_what_a_first_start_needs_is_given_back(cloud: FakeCloud) -> None:
    assert memory_mb(cloud) <= PROMISED_MB - HEADROOM_MB
    log_in_thirty_times(cloud)
    time.sleep(TRIM_SECONDS)
    assert memory_mb(cloud) <= PROMISED_MB
    cloud.down()
    cloud.up()
    assert memory_mb(cloud) <= PROMISED_MB - HEADROOM_MB


def test_composing_the_cloud_imports_what_it_uses_and_no_more() -> None:
    services = ("identity", "image", "network", "block_storage", "placement", "compute")
    modules = [
        "sys",
        "kilonova.cli.up",
        "kilonova.cli.compose.embedded",
        *(f"kilonova.{one}.service" for one in services),
    ]
    code = f"import {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    loaded = done.stdout.split()
    assert set(modules) <= set(loaded)
    assert [name for name in loaded if name.startswith(UNWANTED)] == []
