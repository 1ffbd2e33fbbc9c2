"""A hypervisor that runs nothing: the same port, faults and events as libvirt, for simulation and API tests.

`FakeMachine` is the host's hardware. It survives its agent: a simulation crashes the agent, makes a new
`FakeHypervisor` on the same machine, and finds the guests as they were. Each verb is O(1) in the number of guests.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable

import msgspec

from kilonova.base.faults import Fault, conflict, not_found
from kilonova.base.world import World
from kilonova.compute.contract import (
    Disk,
    DiskUse,
    Guest,
    GuestSpec,
    GuestUse,
    HypervisorInfo,
    Nic,
    NicUse,
    NumaCell,
    PciDevice,
    Power,
)

_BOOT_LINES = (
    "SeaBIOS (version 1.16.2-debian-1.16.2-1)",
    "Booting from Hard Disk...",
    "[    0.000000] Linux version 6.1.0-cloud-amd64 (fake)",
    "[    0.000000] Command line: root=LABEL=cirros-rootfs console=ttyS0",
    "[    0.004000] DMI: OpenStack Foundation OpenStack Nova",
    "[    0.120000] smpboot: CPU0: QEMU Virtual CPU",
    "[    0.410000] virtio_blk virtio0: [vda] attached",
    "[    0.640000] EXT4-fs (vda1): mounted filesystem",
    "[    0.800000] virtio_net virtio1 eth0: link up",
    "cloud: asking for an address on eth0",
    "cloud: reading the metadata service",
    "cloud: host keys made",
    "cloud: authorized keys written",
    "### cloud done",
    "",
    "login as 'cirros' user.",
)


class FakeGuest:
    """One guest of a fake machine."""

    __slots__ = ("boots", "grew", "has_agent", "interrupts", "obeys_acpi", "power", "saved", "spec", "vnc_port")

    def __init__(self, spec: GuestSpec, vnc_port: int) -> None:
        self.spec = spec
        self.power = Power.SHUTDOWN
        self.saved = False  # its memory is on disk
        self.boots = 0
        self.obeys_acpi = True
        self.has_agent = True
        self.interrupts = 0
        self.grew: list[str] = []  # serials of disks that it was told are larger
        self.vnc_port = vnc_port


class FakeMachine:
    """A host's hardware in memory: guests, cached images and disks that outlive the agent that made them.

    `refuse(verb, fault)` makes the next call of that verb fail; `power_off`, `crash` and `lose_power` are what
    guests and electricity do by themselves.
    """

    def __init__(
        self, name: str = "fake", *, vcpus: int = 20_000, memory_mb: int = 20_480_000, disk_gb: int = 1_000_000
    ) -> None:
        self.name = name
        self.vcpus = vcpus
        self.memory_mb = memory_mb
        self.disk_gb = disk_gb
        self.cells: tuple[NumaCell, ...] = ()
        self.pci_devices: tuple[PciDevice, ...] = ()
        self.cpu_seconds: dict[str, float] = {}
        self.guests: dict[str, FakeGuest] = {}
        self.images: dict[str, str] = {}  # image id → path
        self.disks: dict[str, list[Disk]] = {}  # server id → its disks
        self.disk_gb_of: dict[str, int] = {}
        self.rescue_disks: set[str] = set()  # server ids that have some
        self.kept_disks: dict[str, tuple[list[Disk], int]] = {}  # server id → the disks it had before, GB
        self.disk_gb_used = 0
        self.snapshots: set[str] = set()  # files of snapshots that are under way
        self.passwords: dict[str, str] = {}
        self.acpi_seconds = 0.0  # how long a guest takes to shut down when asked
        self.verb_seconds = 0.0  # how long each verb takes
        self._next_vnc_port = 5900
        self._refusals: defaultdict[str, list[Fault]] = defaultdict(list)
        self._told: list[Callable[[str, Power], None]] = []

    # ── what a test or a simulation does to the machine

    def refuse(self, verb: str, fault: Fault, times: int = 1) -> None:
        """The next `times` calls of `verb` (a method of the port) raise `fault` and change nothing."""
        self._refusals[verb].extend([fault] * times)

    def power_off(self, guest_id: str) -> None:
        """The guest shut itself down."""
        self.set_power(self.guest(guest_id), Power.SHUTDOWN)

    def crash(self, guest_id: str) -> None:
        """The guest's QEMU died."""
        self.set_power(self.guest(guest_id), Power.CRASHED)

    def lose_power(self) -> None:
        """The host lost electricity: every guest is off, and nobody was told."""
        self._told = []
        for guest in self.guests.values():
            guest.power = Power.SHUTDOWN

    # ── what the adapters do

    def check(self, verb: str) -> None:
        """Raise the fault that was prepared for `verb`, if any."""
        if waiting := self._refusals.get(verb):
            raise waiting.pop(0)

    def guest(self, guest_id: str) -> FakeGuest:
        """The guest. NOT_FOUND when the machine has none of that id."""
        try:
            return self.guests[guest_id]
        except KeyError:
            raise not_found("Guest", guest_id) from None

    def define(self, spec: GuestSpec) -> FakeGuest:
        """The guest of that id, defined when it was not; an older definition is replaced when it is off."""
        guest = self.guests.get(spec.id)
        if guest is None:
            guest = self.guests[spec.id] = FakeGuest(spec, self._next_vnc_port)
            self._next_vnc_port = 5900 + (self._next_vnc_port - 5900 + 1) % 60_000
        elif guest.power not in (Power.RUNNING, Power.PAUSED):
            guest.spec = spec
        return guest

    def set_power(self, guest: FakeGuest, power: Power) -> None:
        """Change a guest's power and tell whoever listens, on the loop's next turn."""
        if guest.power is power:
            return
        guest.power = power
        for told in self._told:
            asyncio.get_running_loop().call_soon(told, guest.spec.id, power)

    def connect(self) -> None:
        """A new agent took over: whoever listened before is gone."""
        self._told = []

    def listen(self, told: Callable[[str, Power], None]) -> None:
        self._told.append(told)

    def console_text(self, guest_id: str) -> str:
        """What the guest wrote to its serial console since it was made; "" when it never ran."""
        guest = self.guests.get(guest_id)
        if guest is None:
            return ""
        host = guest.spec.description or guest.spec.name
        boot = "\n".join(_BOOT_LINES) + f"\n{host} login: \n"
        return boot * guest.boots


class FakeHypervisor:
    """Hypervisor on a `FakeMachine`. Making one is what a started agent does: it adopts the guests it finds."""

    def __init__(self, world: World, machine: FakeMachine) -> None:
        self._world = world
        self._machine = machine
        machine.connect()

    async def info(self) -> HypervisorInfo:
        await self._seam("info")
        return HypervisorInfo(
            type="fake",
            version=1_000_000,
            vcpus=self._machine.vcpus,
            memory_mb=self._machine.memory_mb,
            cpu_info={"arch": "x86_64", "model": "fake", "vendor": "Kilonova", "features": [], "topology": {}},
            cells=self._machine.cells,
            cpu_seconds=dict(self._machine.cpu_seconds),
        )

    async def pci_devices(self) -> tuple[PciDevice, ...]:
        await self._seam("pci_devices")
        return self._machine.pci_devices

    async def ensure_started(self, spec: GuestSpec, *, paused: bool = False) -> Guest:
        await self._seam("ensure_started")
        guest = self._machine.define(spec)
        if guest.power not in (Power.RUNNING, Power.PAUSED):
            guest.boots += 1
            guest.saved = False
            self._machine.set_power(guest, Power.PAUSED if paused else Power.RUNNING)
        return await self._answer(guest)

    async def resume(self, guest_id: str) -> Guest:
        await self._seam("resume")
        guest = self._on(guest_id)
        self._machine.set_power(guest, Power.RUNNING)
        return await self._answer(guest)

    async def ensure_stopped(self, guest_id: str, grace_seconds: float) -> Guest:
        await self._seam("ensure_stopped")
        guest = self._machine.guest(guest_id)
        if guest.power is Power.RUNNING and grace_seconds > 0:
            obeys = guest.obeys_acpi and self._machine.acpi_seconds <= grace_seconds
            await self._world.clock.sleep(self._machine.acpi_seconds if obeys else grace_seconds)
        guest.saved = False
        self._machine.set_power(guest, Power.SHUTDOWN)
        return await self._answer(guest)

    async def pause(self, guest_id: str) -> Guest:
        await self._seam("pause")
        guest = self._on(guest_id)
        self._machine.set_power(guest, Power.PAUSED)
        return await self._answer(guest)

    async def save(self, guest_id: str) -> Guest:
        await self._seam("save")
        guest = self._machine.guest(guest_id)
        guest.saved = guest.saved or guest.power in (Power.RUNNING, Power.PAUSED)
        self._machine.set_power(guest, Power.SHUTDOWN)
        return await self._answer(guest)

    async def restore(self, spec: GuestSpec) -> Guest:
        await self._seam("restore")
        guest = self._machine.define(spec)
        if guest.power is not Power.RUNNING:
            guest.boots += not guest.saved
            guest.saved = False
            self._machine.set_power(guest, Power.RUNNING)
        return await self._answer(guest)

    async def ensure_gone(self, guest_id: str) -> None:
        await self._seam("ensure_gone")
        if guest := self._machine.guests.pop(guest_id, None):
            self._machine.set_power(guest, Power.SHUTDOWN)
        await self._world.clock.sleep(0)

    async def guest_agent_answers(self, guest_id: str) -> bool:
        await self._seam("guest_agent_answers")
        guest = self._machine.guest(guest_id)
        return guest.has_agent and guest.power is Power.RUNNING

    async def set_password(self, guest_id: str, user: str, password: str) -> None:
        await self._seam("set_password")
        if not await self.guest_agent_answers(guest_id):
            raise conflict("The server's guest agent does not answer.", hint="Install qemu-guest-agent in the guest.")
        self._machine.passwords[guest_id] = password

    async def inject_nmi(self, guest_id: str) -> None:
        await self._seam("inject_nmi")
        self._on(guest_id).interrupts += 1

    async def use(self, guest_id: str) -> GuestUse:
        await self._seam("use")
        spec = self._on(guest_id).spec
        return GuestUse(
            "fake",
            cpu_nanoseconds=(0,) * spec.vcpus,
            memory_kib=spec.memory_mb * 1024,
            memory_used_kib=spec.memory_mb * 1024,
            disks=tuple(DiskUse(disk.target) for disk in spec.disks),
            nics=tuple(NicUse(nic.mac, nic.tap) for nic in spec.nics),
        )

    def _on(self, guest_id: str) -> FakeGuest:
        guest = self._machine.guest(guest_id)
        if guest.power not in (Power.RUNNING, Power.PAUSED):
            raise conflict(f"Guest {guest_id} is not running.", hint="Start the server first.")
        return guest

    async def guests(self) -> list[Guest]:
        await self._seam("guests")
        return [_seen(guest) for guest in self._machine.guests.values()]

    async def copy_disk(self, guest_id: str, source: str, target: str, freeze: str) -> bool:
        await self._seam("copy_disk")
        guest = self._machine.guests.get(guest_id)
        return guest is not None and guest.power in (Power.RUNNING, Power.PAUSED)

    async def hold_still(self, guest_id: str, freeze: str) -> None:
        await self._seam("hold_still")
        guest = self._machine.guests.get(guest_id)
        if guest is not None and guest.power is Power.RUNNING:
            self._machine.set_power(guest, Power.PAUSED)
        await self._world.clock.sleep(0)

    async def let_go_on(self, guest_id: str, freeze: str) -> None:
        await self._seam("let_go_on")
        guest = self._machine.guests.get(guest_id)
        if guest is not None and guest.power is Power.PAUSED:
            self._machine.set_power(guest, Power.RUNNING)
        await self._world.clock.sleep(0)

    async def attach_disk(self, guest_id: str, disk: Disk) -> None:
        await self._seam("attach_disk")
        guest = self._machine.guests.get(guest_id)
        if guest is not None and disk.serial not in [one.serial for one in guest.spec.disks]:
            guest.spec = msgspec.structs.replace(guest.spec, disks=(*guest.spec.disks, disk))
        await self._world.clock.sleep(0)

    async def disk_grew(self, guest_id: str, serial: str) -> None:
        await self._seam("disk_grew")
        guest = self._machine.guests.get(guest_id)
        if guest is not None and guest.power in (Power.RUNNING, Power.PAUSED):
            guest.grew.append(serial)

    async def detach_disk(self, guest_id: str, serial: str) -> None:
        await self._seam("detach_disk")
        if guest := self._machine.guests.get(guest_id):
            kept = tuple(one for one in guest.spec.disks if one.serial != serial)
            guest.spec = msgspec.structs.replace(guest.spec, disks=kept)
        await self._world.clock.sleep(0)

    async def attach_nic(self, guest_id: str, nic: Nic) -> None:
        await self._seam("attach_nic")
        guest = self._machine.guests.get(guest_id)
        if guest is not None and nic.mac not in [one.mac for one in guest.spec.nics]:
            guest.spec = msgspec.structs.replace(guest.spec, nics=(*guest.spec.nics, nic))
        await self._world.clock.sleep(0)

    async def detach_nic(self, guest_id: str, mac: str) -> None:
        await self._seam("detach_nic")
        if guest := self._machine.guests.get(guest_id):
            kept = tuple(one for one in guest.spec.nics if one.mac != mac)
            guest.spec = msgspec.structs.replace(guest.spec, nics=kept)
        await self._world.clock.sleep(0)

    async def vnc_address(self, guest_id: str) -> tuple[str, int]:
        await self._seam("vnc_address")
        return ("127.0.0.1", self._on(guest_id).vnc_port)

    def on_power_change(self, told: Callable[[str, Power], None]) -> None:
        self._machine.listen(told)

    async def close(self) -> None:
        self._machine.connect()

    async def _seam(self, verb: str) -> None:
        """Where time passes, an agent may die, and a prepared fault strikes: before anything changed."""
        await self._world.clock.sleep(self._machine.verb_seconds)
        self._machine.check(verb)

    async def _answer(self, guest: FakeGuest) -> Guest:
        """Where an agent may die after the machine obeyed and before anyone knows."""
        seen = _seen(guest)
        await self._world.clock.sleep(0)
        return seen


def _seen(guest: FakeGuest) -> Guest:
    return Guest(id=guest.spec.id, name=guest.spec.name, power=guest.power)
