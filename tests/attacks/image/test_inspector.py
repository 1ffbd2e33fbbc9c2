"""What reads headers that users wrote: it can do nothing else, and data that makes it spin, eat or die harms nobody."""

from __future__ import annotations

import asyncio
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kilonova.base.world import LiveWorld
from kilonova.image.contract import Ends, Found
from kilonova.node.images.formats import verdict
from kilonova.node.images.inspector import ConfinedInspector
from tests.api.image.door import QCOW2, WholeImage, whole_image
from tests.attacks.image.test_data import DOORS

MIB = 1 << 20
KIND = b'createType="monolithicSparse"\n'
SPINNERS = {
    "blank lines": b"\n" * 63_000,
    "blanks": b" " * 63_000,
    "lines of blanks": b" \t\v\f\r\n" * 10_000,
    "extents without a number": b"RW\n" * 21_000,
    "extents without a kind": b"RW 1\n" * 12_000,
    "kinds without an end": b'createType="\n' * 4_000,
    "parents without a name": b"parentCID=\n" * 5_000,
}


def vmdk_of(descriptor: bytes) -> bytes:
    """A sparse VMDK with this descriptor, however large."""
    sectors = len(descriptor) // 512 + 1
    head = struct.pack("<4sIIQQQQ", b"KDMV", 1, 3, 2048, 128, 1, sectors).ljust(512, b"\0")
    return (head + descriptor).ljust(512 * (sectors + 2), b"\0")


@pytest.mark.parametrize("spinner", SPINNERS)
def test_no_descriptor_takes_long(spinner: str) -> None:
    data = vmdk_of(KIND + SPINNERS[spinner])
    began = time.process_time()
    assert verdict(data, data[-512:], len(data)).unsafe
    assert time.process_time() - began < 1  # what is tried again from each line takes minutes


@pytest.mark.parametrize("extensions", [0, 1, 8])
def test_a_qcow2_of_endless_extensions_takes_no_time(extensions: int) -> None:
    head = struct.pack(">4sIQIIQIIQQIIQQQQII", b"QFI\xfb", 3, 0, 0, 16, MIB, *[0] * 8, 0, 0, 4, 104)
    data = (head + struct.pack(">II", 1, extensions) * 600_000)[: 5 * MIB]
    began = time.process_time()
    assert "data file" in verdict(data, b"", len(data)).unsafe
    assert time.process_time() - began < 1


@pytest.mark.parametrize("enter", DOORS, ids=lambda door: door.__name__)
async def test_every_door_refuses_a_descriptor_of_megabytes(tmp_path: Path, enter: Callable[..., object]) -> None:
    async with whole_image(tmp_path) as image:
        image_id = await image.create(disk_format="vmdk")
        said = await enter(image, image_id, vmdk_of(b"\n" * 4 * MIB))  # type: ignore[misc]
        assert "not where it can be checked" in str(said)
        assert image.kept() == {"first": [], "second": []}


ATTEMPTS = {
    "the network": "import socket; socket.socket()",
    "a socket of this machine": "import socket; socket.socket(socket.AF_UNIX)",
    "a file": "open('/etc/hostname')",
    "a program": "os.execv('/bin/true', ['true'])",
    "another process": "os.fork()",
    "a signal": "os.kill(os.getppid(), 9)",
    "memory": "bytearray(1 << 30)",
}


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_what_is_shut_in_reaches_nothing(attempt: str) -> None:
    code = f"""
import os, socket
from kilonova.node.images.inspect_child import shut_in
assert shut_in() == ""
try:
    {ATTEMPTS[attempt]}
except (OSError, MemoryError) as error:
    os.write(1, type(error).__name__.encode())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == ("MemoryError" if attempt == "memory" else "PermissionError"), done.stderr


async def test_the_child_is_nobody_without_a_network() -> None:
    world = LiveWorld("inspect")
    inspector = ConfinedInspector(world)
    assert await inspector.judge(Ends(QCOW2, b"", len(QCOW2))) == Found("qcow2", MIB)
    [pid] = inspector.children()
    told = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    assert (told["NoNewPrivs"].strip(), told["Seccomp"].strip()) == ("1", "2")
    assert int(told["CapEff"], 16) == 0 and int(told["VmRSS"].split()[0]) < 40_000
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert f"Max address space         {128 * MIB}" in limits and "Max open files            0" in limits
    if os.geteuid() == 0:
        assert set(told["Uid"].split()) == {"65534"} == set(told["Gid"].split())
        assert os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net")
    await world.close()
    await asyncio.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()


async def test_a_child_that_nobody_asks_ends() -> None:
    world = LiveWorld("inspect")
    inspector = ConfinedInspector(world, idle_seconds=0.2)
    await inspector.judge(Ends(b"raw", b"raw", 3))
    [pid] = inspector.children()
    for _ in range(100):
        if not inspector.children():
            break
        await asyncio.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()
    assert await inspector.judge(Ends(b"raw", b"raw", 3)) == Found("raw", 3)  # another is there when it is needed
    await world.close()


async def test_one_that_died_at_rest_is_replaced_before_it_is_asked() -> None:
    world = LiveWorld("inspect")
    inspector = ConfinedInspector(world)
    await inspector.judge(Ends(b"raw", b"raw", 3))
    [pid] = inspector.children()
    os.kill(pid, signal.SIGKILL)
    await asyncio.sleep(0.2)
    assert await inspector.judge(Ends(b"raw", b"raw", 3)) == Found("raw", 3)
    assert inspector.children() != [pid]
    await world.close()


def halted(image: WholeImage) -> int:
    """The child that is asked next never answers, as one that spins; its process id."""
    [pid] = image.service.inspector().children()  # type: ignore[attr-defined]
    os.kill(pid, signal.SIGSTOP)
    return int(pid)


async def test_an_upload_whose_inspector_hangs_is_refused_and_the_next_is_taken(tmp_path: Path) -> None:
    async with whole_image(tmp_path, inspector_seconds=1.0) as image:
        first, second, third = [await image.create() for _ in range(3)]
        await image.put(first, b"one")
        pid = halted(image)
        hanging = asyncio.create_task(image.put(second, b"two" * MIB, status=503))
        await asyncio.sleep(0.3)
        began = time.monotonic()
        await image.put(third, b"three")  # nobody waits for the one that hangs
        assert (await hanging).json()["message"].startswith("The headers of the image could not be read")
        assert time.monotonic() - began < 5
        assert not Path(f"/proc/{pid}").exists()
        assert (await image.show(second))["status"] == "queued"
        assert image.kept() == {"first": sorted([first, third]), "second": []}
        await image.put(second, b"two" * MIB)


async def test_an_import_whose_inspector_dies_keeps_nothing(tmp_path: Path) -> None:
    async with whole_image(tmp_path) as image:
        first, second = await image.create(), await image.create()
        await image.put(first, b"one")
        pid = halted(image)
        await image.put(second, b"two", "stage")
        await image.import_(second, "glance-direct")
        await asyncio.sleep(0.5)  # it is being asked
        os.kill(pid, signal.SIGKILL)
        task = await image.ended(second)
        assert task["status"] == "failure" and "could not be read" in task["message"]
        assert (await image.show(second))["status"] == "queued"
        assert image.kept() == {"first": [first], "second": []}


async def test_a_child_that_has_worked_long_enough_is_replaced_unnoticed() -> None:
    world = LiveWorld("inspect")
    inspector = ConfinedInspector(world, tired_seconds=0.0)  # after every image
    pids = set()
    for _ in range(5):
        assert await inspector.judge(Ends(b"raw", b"raw", 3)) == Found("raw", 3)
        pids |= set(inspector.children())
    assert len(pids) == 5
    await world.close()
