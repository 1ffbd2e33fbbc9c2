"""What every hypervisor does: run against the fake always, and against libvirt where a guest can boot."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from kilonova.base.faults import Fault, Kind
from kilonova.base.world import LiveWorld
from kilonova.compute.contract import Guest, GuestSpec, Hypervisor, Power
from kilonova.node.hypervisor.fake import FakeHypervisor, FakeMachine


class FakeRig:
    """A fake hypervisor, and the specs of guests it can run."""

    def __init__(self) -> None:
        self.world = LiveWorld("test-hypervisor")
        self.machine = FakeMachine()
        self.hypervisor: Hypervisor = FakeHypervisor(self.world, self.machine)

    async def spec(self) -> GuestSpec:
        number = len(self.machine.guests) + 1
        return GuestSpec(
            str(uuid.uuid4()), f"test-{number:08x}", 1, 128, disks=(), nics=(), console_log="/nonexistent/console.log"
        )

    async def restart_agent(self) -> None:
        await self.hypervisor.close()
        self.hypervisor = FakeHypervisor(self.world, self.machine)

    async def close(self) -> None:
        await self.hypervisor.close()
        await self.world.close()


async def _fake() -> FakeRig:
    return FakeRig()


async def _libvirt() -> Any:
    from tests.real import libvirt_rig

    made: Any = await libvirt_rig.make()
    return made


@pytest.fixture(
    params=[
        pytest.param(_fake, id="fake"),
        pytest.param(_libvirt, id="libvirt", marks=[pytest.mark.root, pytest.mark.guest]),
    ]
)
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[FakeRig]:
    made = await request.param()
    yield made
    await made.close()


async def power_of(hypervisor: Hypervisor, guest_id: str) -> Power | None:
    return {guest.id: guest.power for guest in await hypervisor.guests()}.get(guest_id)


async def test_a_host_tells_what_it_is_made_of(rig: FakeRig) -> None:
    info = await rig.hypervisor.info()
    assert info.vcpus > 0 and info.memory_mb > 0 and "arch" in info.cpu_info
    cpus = [cpu for cell in info.cells for cpu in cell.shared]
    assert len(cpus) == len(set(cpus)) and (not cpus or len(cpus) == info.vcpus)
    assert all(not cell.dedicated and not cell.pinned for cell in info.cells), "who may have which is not told here"
    assert {cpu for cell in info.cells for core in cell.siblings for cpu in core} <= set(cpus)
    assert all(seconds >= 0 for seconds in info.cpu_seconds.values())
    for device in await rig.hypervisor.pci_devices():
        assert re.fullmatch(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", device.address)
        assert re.fullmatch(r"[0-9a-f]{4}", device.vendor_id) and re.fullmatch(r"[0-9a-f]{4}", device.product_id)


async def test_a_guest_starts_stops_and_goes(rig: FakeRig) -> None:
    spec = await rig.spec()
    started = await rig.hypervisor.ensure_started(spec)
    assert started == Guest(spec.id, spec.name, Power.RUNNING)
    assert await power_of(rig.hypervisor, spec.id) is Power.RUNNING
    stopped = await rig.hypervisor.ensure_stopped(spec.id, 0)
    assert stopped == Guest(spec.id, spec.name, Power.SHUTDOWN)
    assert await power_of(rig.hypervisor, spec.id) is Power.SHUTDOWN
    assert (await rig.hypervisor.ensure_started(spec)).power is Power.RUNNING
    await rig.hypervisor.ensure_gone(spec.id)
    assert await power_of(rig.hypervisor, spec.id) is None


async def test_each_verb_twice_is_as_once(rig: FakeRig) -> None:
    spec = await rig.spec()
    assert await rig.hypervisor.ensure_started(spec) == await rig.hypervisor.ensure_started(spec)
    assert (await rig.hypervisor.resume(spec.id)).power is Power.RUNNING
    assert await rig.hypervisor.ensure_stopped(spec.id, 0) == await rig.hypervisor.ensure_stopped(spec.id, 0)
    await rig.hypervisor.ensure_gone(spec.id)
    await rig.hypervisor.ensure_gone(spec.id)
    assert await power_of(rig.hypervisor, spec.id) is None


async def test_a_paused_start_waits_for_resume(rig: FakeRig) -> None:
    spec = await rig.spec()
    assert (await rig.hypervisor.ensure_started(spec, paused=True)).power is Power.PAUSED
    assert (await rig.hypervisor.ensure_started(spec, paused=True)).power is Power.PAUSED
    assert (await rig.hypervisor.resume(spec.id)).power is Power.RUNNING


async def test_a_guest_is_held_still_and_goes_on(rig: FakeRig) -> None:
    spec = await rig.spec()
    await rig.hypervisor.ensure_started(spec)
    for _ in range(2):
        await rig.hypervisor.hold_still(spec.id, "try")
        assert [guest.power for guest in await rig.hypervisor.guests()] == [Power.PAUSED]
    for _ in range(2):
        await rig.hypervisor.let_go_on(spec.id, "try")
        assert [guest.power for guest in await rig.hypervisor.guests()] == [Power.RUNNING]
    await rig.hypervisor.ensure_stopped(spec.id, 0)
    await rig.hypervisor.hold_still(spec.id, "must")
    await rig.hypervisor.let_go_on(spec.id, "must")
    assert [guest.power for guest in await rig.hypervisor.guests()] == [Power.SHUTDOWN]


async def test_power_changes_are_told(rig: FakeRig) -> None:
    told: list[tuple[str, Power]] = []
    rig.hypervisor.on_power_change(lambda guest_id, power: told.append((guest_id, power)))
    spec = await rig.spec()
    await rig.hypervisor.ensure_started(spec)
    await eventually(lambda: (spec.id, Power.RUNNING) in told)
    await rig.hypervisor.ensure_stopped(spec.id, 0)
    await eventually(lambda: told[-1] == (spec.id, Power.SHUTDOWN))


async def test_a_restarted_agent_finds_its_guests_running(rig: FakeRig) -> None:
    spec = await rig.spec()
    await rig.hypervisor.ensure_started(spec)
    await rig.restart_agent()
    assert await power_of(rig.hypervisor, spec.id) is Power.RUNNING
    told: list[Power] = []
    rig.hypervisor.on_power_change(lambda _, power: told.append(power))
    await rig.hypervisor.ensure_stopped(spec.id, 0)
    await eventually(lambda: told == [Power.SHUTDOWN])


async def test_verbs_on_an_unknown_guest_say_so(rig: FakeRig) -> None:
    unknown = str(uuid.uuid4())
    for verb in (
        rig.hypervisor.resume(unknown),
        rig.hypervisor.ensure_stopped(unknown, 0),
        rig.hypervisor.vnc_address(unknown),
    ):
        with pytest.raises(Fault) as caught:
            await verb
        assert caught.value.kind is Kind.NOT_FOUND
        assert unknown in caught.value.message
    await rig.hypervisor.ensure_gone(unknown)


async def test_vnc_has_an_address_only_while_the_guest_runs(rig: FakeRig) -> None:
    spec = await rig.spec()
    await rig.hypervisor.ensure_started(spec)
    address, port = await rig.hypervisor.vnc_address(spec.id)
    assert address == "127.0.0.1"
    assert port >= 5900
    await rig.hypervisor.ensure_stopped(spec.id, 0)
    with pytest.raises(Fault) as caught:
        await rig.hypervisor.vnc_address(spec.id)
    assert caught.value.kind is Kind.CONFLICT
    with pytest.raises(Fault) as resumed:
        await rig.hypervisor.resume(spec.id)
    assert resumed.value.kind is Kind.CONFLICT


async def test_info_has_room_and_a_version(rig: FakeRig) -> None:
    info = await rig.hypervisor.info()
    assert info.type in {"fake", "QEMU", "KVM"}
    assert info.vcpus >= 1
    assert info.memory_mb > 128
    assert info.version >= 1_000_000
    assert info.cpu_info["arch"] == "x86_64"


async def eventually(true: Callable[[], bool], seconds: float = 10) -> None:
    for _ in range(int(seconds / 0.02)):
        if true():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not come true in time")
