"""A host on libvirt: who QEMU runs as, and what survives when daemons are killed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kilonova.base.faults import Fault, Kind
from kilonova.compute.contract import Power
from tests.real.libvirt_rig import LibvirtRig, make

pytestmark = [pytest.mark.root, pytest.mark.guest]


@pytest.fixture
async def rig() -> AsyncIterator[LibvirtRig]:
    made = await make()
    yield made
    await made.close()


def qemu_pid(rig: LibvirtRig, name: str) -> int:
    return int((Path(rig.daemon.directory) / "run" / "qemu" / f"{name}.pid").read_text())


def status_of(pid: int) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())


async def test_qemu_is_not_root_and_keeps_no_capability(rig: LibvirtRig) -> None:
    spec = await rig.spec()
    await rig.hypervisor.ensure_started(spec)
    status = status_of(qemu_pid(rig, spec.name))
    assert status["Uid"].split() == [str(rig.user.pw_uid)] * 4
    assert int(status["CapEff"], 16) == 0
    assert status["Seccomp"].strip() == "2"


async def test_guests_live_through_the_death_of_their_daemon(rig: LibvirtRig) -> None:
    spec = await rig.spec()
    await rig.hypervisor.ensure_started(spec)
    pid = qemu_pid(rig, spec.name)
    told: list[tuple[str, Power]] = []
    rig.hypervisor.on_power_change(lambda guest_id, power: told.append((guest_id, power)))
    os.kill(rig.daemon.pid(), signal.SIGKILL)
    guests = await rig.hypervisor.guests()
    assert [(guest.id, guest.power) for guest in guests] == [(spec.id, Power.RUNNING)]
    assert qemu_pid(rig, spec.name) == pid
    os.kill(pid, signal.SIGKILL)
    for _ in range(100):
        if told and told[-1][1] is not Power.RUNNING:
            break
        await asyncio.sleep(0.05)
    assert told[-1][0] == spec.id
    assert told[-1][1] in (Power.CRASHED, Power.SHUTDOWN)  # a revived daemon cannot tell which


async def test_a_guest_whose_qemu_dies_is_told_as_crashed(rig: LibvirtRig) -> None:
    told: list[tuple[str, Power]] = []
    rig.hypervisor.on_power_change(lambda guest_id, power: told.append((guest_id, power)))
    spec = await rig.spec()
    await rig.hypervisor.ensure_started(spec)
    os.kill(qemu_pid(rig, spec.name), signal.SIGKILL)
    for _ in range(100):
        if told and told[-1][1] is Power.CRASHED:  # it may be seen paused on the way, before its first instruction
            break
        await asyncio.sleep(0.05)
    assert told[-1] == (spec.id, Power.CRASHED)


async def test_a_daemon_with_guests_refuses_to_stop(rig: LibvirtRig) -> None:
    spec = await rig.spec()
    await rig.hypervisor.ensure_started(spec)
    with pytest.raises(Fault) as caught:
        rig.daemon.stop()
    assert caught.value.kind is Kind.CONFLICT
    assert rig.daemon.pid() > 0


async def test_a_second_process_adopts_the_daemon(rig: LibvirtRig) -> None:
    await rig.hypervisor.guests()
    pid = rig.daemon.pid()
    rig.daemon.ensure_running()
    other = type(rig.daemon)(str(rig.daemon.directory), rig.namespace, namespace=rig.namespace)
    other.ensure_running()
    assert other.pid() == pid


async def test_a_disk_that_is_missing_is_said_plainly(rig: LibvirtRig) -> None:
    spec = await rig.spec()
    os.unlink(spec.disks[0].path)
    with pytest.raises(Fault) as caught:
        await rig.hypervisor.ensure_started(spec)
    assert caught.value.kind is Kind.UNAVAILABLE
    assert "libvirt" in caught.value.inside
    assert str(rig.directory) not in caught.value.told
