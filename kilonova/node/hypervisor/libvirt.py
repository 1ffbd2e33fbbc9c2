"""A host's guests on libvirt: QEMU's own emulation or KVM, on a private daemon or any libvirt URI."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import libvirt

from kilonova.base.faults import Fault, conflict, unavailable
from kilonova.base.world import World
from kilonova.compute.contract import Disk, Guest, GuestSpec, GuestUse, HypervisorInfo, Nic, PciDevice, Power
from kilonova.node.hypervisor import libvirt_calls as calls
from kilonova.node.hypervisor import libvirt_copy as copying
from kilonova.node.hypervisor import libvirt_devices as devices
from kilonova.node.hypervisor import libvirt_inside as inside
from kilonova.node.hypervisor.domain_xml import Platform, disk_xml, domain_xml, nic_xml
from kilonova.node.hypervisor.libvirt_events import ensure_event_thread
from kilonova.node.hypervisor.libvirt_faults import fault_of
from kilonova.node.hypervisor.libvirt_host import pci_devices
from kilonova.node.hypervisor.libvirtd import PrivateLibvirtd

T = TypeVar("T")
log = logging.getLogger(__name__)

_ON = (Power.RUNNING, Power.PAUSED, Power.SUSPENDED)
_LET_GO_TRIES, _LET_GO_SECONDS = 8, 15.0
_ACPI_AGAIN_SECONDS = 10.0  # a guest that is still booting misses the first press of its power button
_LOST_CODES = {libvirt.VIR_ERR_RPC, libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_ERR_INTERNAL_ERROR,
               libvirt.VIR_ERR_INVALID_CONN, libvirt.VIR_ERR_OPERATION_INVALID}  # fmt: skip


class LibvirtHypervisor:
    """Hypervisor on libvirt. Give it a private daemon, which it starts and revives, or the URI of another.

    Calls run in four threads of its own. When the daemon dies it is started again, and the call that was under
    way is made once more: every verb may be repeated. Guests never notice.
    """

    def __init__(
        self, world: World, *, daemon: PrivateLibvirtd | None = None, uri: str = "", platform: Platform | None = None,
        keys: Callable[[], Mapping[str, str]] | None = None,
    ) -> None:  # fmt: skip
        if daemon is None and not uri:
            raise ValueError("a private daemon or a URI is needed")
        self._world = world
        self._daemon = daemon
        self._uri = daemon.uri if daemon else uri
        self._platform = platform or Platform()
        self._keys = keys  # of storage that QEMU reaches over the network: by the id that disks name
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="libvirt")
        self._connection: Any = None
        self._connecting = asyncio.Lock()
        self._listeners: list[Callable[[str, Power], None]] = []
        self._powers: dict[str, Power] = {}  # as last told
        self._changed: asyncio.Queue[str] = asyncio.Queue()  # guest ids, "" for all
        self._teller: asyncio.Task[Any] | None = None
        self._closed = False

    async def info(self) -> HypervisorInfo:
        return await self._call(calls.info, self._platform, guest_id="", doing="asking")

    async def pci_devices(self) -> tuple[PciDevice, ...]:
        return await self._call(pci_devices, guest_id="", doing="asking for devices")

    async def ensure_started(self, spec: GuestSpec, *, paused: bool = False) -> Guest:
        xml = domain_xml(spec, self._platform)
        guest = await self._call(calls.ensure_started, spec.id, xml, paused, guest_id=spec.id, doing="starting")
        self._powers.setdefault(spec.id, Power.NOSTATE)  # whatever it becomes, also off, is news
        return guest

    async def resume(self, guest_id: str) -> Guest:
        guest = await self._call(calls.resume, guest_id, guest_id=guest_id, doing="resuming")
        if guest.power not in _ON:
            raise _not_running(guest_id)
        self._world.spawn(self._tell_time(guest_id), "libvirt-time")
        return guest

    async def ensure_stopped(self, guest_id: str, grace_seconds: float) -> Guest:
        guest = await self._look(guest_id)
        clock = self._world.clock
        ends = clock.monotonic() + grace_seconds
        pressed = float("-inf")
        while guest.power is Power.RUNNING and (left := ends - clock.monotonic()) > 0:
            if clock.monotonic() - pressed >= _ACPI_AGAIN_SECONDS:
                await self._call(calls.press_power_button, guest_id, guest_id=guest_id, doing="stopping")
                pressed = clock.monotonic()
            await clock.sleep(min(0.25, left))
            guest = await self._look(guest_id)
        return await self._call(calls.cut_power, guest_id, guest_id=guest_id, doing="stopping")

    async def pause(self, guest_id: str) -> Guest:
        guest = await self._call(calls.pause, guest_id, guest_id=guest_id, doing="pausing")
        if guest.power not in _ON:
            raise _not_running(guest_id)
        return guest

    async def save(self, guest_id: str) -> Guest:
        return await self._call(calls.save, guest_id, guest_id=guest_id, doing="saving")

    async def restore(self, spec: GuestSpec) -> Guest:
        xml = domain_xml(spec, self._platform)
        guest = await self._call(calls.restore, spec.id, xml, guest_id=spec.id, doing="restoring")
        self._world.spawn(self._tell_time(spec.id), "libvirt-time")
        return guest

    async def _tell_time(self, guest_id: str) -> None:
        """The guest's clock is set to the host's by its agent; a guest without one keeps its own."""
        for pause in (0.5, 2.0, 5.0):
            await self._world.clock.sleep(pause)
            try:
                now = self._world.clock.now().timestamp()
                await self._call(inside.set_time, guest_id, now, guest_id=guest_id, doing="setting the clock of")
                return
            except Fault as fault:
                log.debug("guest %s was not told the time: %r", guest_id, fault)

    async def ensure_gone(self, guest_id: str) -> None:
        await self._call(calls.remove, guest_id, guest_id=guest_id, doing="removing")

    async def guest_agent_answers(self, guest_id: str) -> bool:
        return await self._call(inside.agent_answers, guest_id, guest_id=guest_id, doing="asking the agent of")

    async def set_password(self, guest_id: str, user: str, password: str) -> None:
        doing = "setting a password of"
        await self._call(inside.set_password, guest_id, user, password, guest_id=guest_id, doing=doing)

    async def inject_nmi(self, guest_id: str) -> None:
        if not await self._call(inside.inject_nmi, guest_id, guest_id=guest_id, doing="interrupting"):
            raise _not_running(guest_id)

    async def use(self, guest_id: str) -> GuestUse:
        used = await self._call(inside.use, guest_id, self._platform, guest_id=guest_id, doing="asking")
        if used is None:
            raise _not_running(guest_id)
        return used

    async def guests(self) -> list[Guest]:
        return await self._call(calls.all_guests, guest_id="", doing="listing")

    async def copy_disk(self, guest_id: str, source: str, target: str, freeze: str) -> bool:
        doing = "copying a disk of"
        return await self._call(copying.copy, guest_id, source, target, freeze, guest_id=guest_id, doing=doing)

    async def hold_still(self, guest_id: str, freeze: str) -> None:
        await self._call(copying.hold_still, guest_id, freeze, guest_id=guest_id, doing="holding still")

    async def let_go_on(self, guest_id: str, freeze: str) -> None:
        await self._call(copying.let_go_on, guest_id, freeze, guest_id=guest_id, doing="letting go on")

    async def attach_disk(self, guest_id: str, disk: Disk) -> None:
        finds = devices.disk_by_serial(disk.serial)
        await self._call(devices.plug, guest_id, disk_xml(disk), finds, guest_id=guest_id, doing="plugging a disk into")

    async def disk_grew(self, guest_id: str, serial: str) -> None:
        finds = devices.disk_by_serial(serial)
        await self._call(devices.grew, guest_id, finds, guest_id=guest_id, doing="growing a disk of")

    async def detach_disk(self, guest_id: str, serial: str) -> None:
        await self._take_out(guest_id, devices.disk_by_serial(serial), "disk")

    async def attach_nic(self, guest_id: str, nic: Nic) -> None:
        finds = devices.nic_by_address(nic.mac)
        await self._call(devices.plug, guest_id, nic_xml(nic), finds, guest_id=guest_id, doing="plugging a NIC into")

    async def detach_nic(self, guest_id: str, mac: str) -> None:
        await self._take_out(guest_id, devices.nic_by_address(mac), "NIC")

    async def _take_out(self, guest_id: str, finds: devices.Finds, what: str) -> None:
        """Ask the guest to let go until it has: one that is still booting does not hear the first request."""
        doing, clock = f"taking a {what} out of", self._world.clock
        for _ in range(_LET_GO_TRIES):
            if not await self._call(devices.has_now, guest_id, finds, guest_id=guest_id, doing=doing):
                break
            if (await self._look(guest_id)).power is Power.PAUSED:
                raise conflict(f"A paused guest cannot let go of a {what}.", hint="Unpause the server first.")
            await self._call(devices.ask_to_let_go, guest_id, finds, guest_id=guest_id, doing=doing)
            until = clock.monotonic() + _LET_GO_SECONDS
            while clock.monotonic() < until:
                if not await self._call(devices.has_now, guest_id, finds, guest_id=guest_id, doing=doing):
                    break
                await clock.sleep(0.1)
        else:
            raise conflict(
                f"The guest does not let go of the {what}.",
                hint="Stop the server, then detach it; a guest that hangs or has no operating system never answers.",
                code="DeviceDetachFailed",
            )
        await self._call(devices.forget, guest_id, finds, guest_id=guest_id, doing=doing)

    async def vnc_address(self, guest_id: str) -> tuple[str, int]:
        address = await self._call(calls.vnc_address, guest_id, guest_id=guest_id, doing="asking")
        if address is None:
            raise _not_running(guest_id)
        return address

    def on_power_change(self, told: Callable[[str, Power], None]) -> None:
        self._listeners.append(told)

    async def start(self) -> None:
        """Connected (the private daemon runs). Verbs do this by themselves; power changes are told from now on."""
        await self._connected()

    async def close(self) -> None:
        """Let go of the daemon; it and its guests go on."""
        self._closed = True
        if self._teller:
            self._teller.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._in_thread(calls.close, connection)
        self._threads.shutdown(wait=False)

    # ── connection

    async def _look(self, guest_id: str) -> Guest:
        return await self._call(calls.look, guest_id, guest_id=guest_id, doing="asking")

    async def _call(self, fn: Callable[..., T], *args: Any, guest_id: str, doing: str) -> T:
        """`fn(connection, …)` in a thread; once more on a new connection when this one broke meanwhile."""
        for attempt in (1, 2):
            connection = await self._connected()
            try:
                return await self._in_thread(fn, connection, *args)
            except libvirt.libvirtError as error:
                if (
                    attempt == 1
                    and error.get_error_code() in _LOST_CODES
                    and not await self._in_thread(calls.alive, connection)
                ):
                    self._lost(connection)
                    continue
                raise fault_of(error, guest_id, doing) from error
        raise AssertionError("unreachable")

    async def _connected(self) -> Any:
        async with self._connecting:
            if self._closed:
                raise unavailable("The host's hypervisor is closed.")
            if self._connection is None:
                if self._daemon is not None:
                    await self._in_thread(self._daemon.ensure_running)
                try:
                    self._connection = await self._in_thread(self._open, asyncio.get_running_loop())
                except libvirt.libvirtError as error:
                    raise unavailable(
                        "The host's libvirt does not answer.",
                        hint=f"Look whether it runs: virsh -c {self._uri} version",
                        inside=error.get_error_message(),
                    ) from error
                if self._teller is None:
                    for guest in await self._in_thread(calls.all_guests, self._connection):
                        self._powers[guest.id] = guest.power
                    self._teller = self._world.spawn(self._tell(), "libvirt-power")
                else:
                    self._world.spawn(self._look_again(), "libvirt-look-again")
            return self._connection

    def _open(self, loop: asyncio.AbstractEventLoop) -> Any:
        """A new connection with its events; runs in a thread."""
        ensure_event_thread()
        connection = libvirt.open(self._uri)
        try:
            if self._keys is not None:
                calls.keep_keys(connection, self._keys())
            connection.setKeepAlive(5, 4)
            connection.registerCloseCallback(lambda c, *_: _tell_loop(loop, self._lost, c), None)
            connection.domainEventRegisterAny(
                None,
                libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE,
                lambda _c, domain, *_: _tell_loop(loop, self._changed.put_nowait, domain.UUIDString()),
                None,
            )
        except libvirt.libvirtError:
            connection.close()
            raise
        return connection

    def _lost(self, connection: Any) -> None:
        """The daemon went away: connect again at once, so that power changes are seen without a verb."""
        if self._closed or connection is not self._connection:
            return
        self._connection = None
        self._world.spawn(self._reconnect(), "libvirt-reconnect")

    async def _reconnect(self) -> None:
        """Connected again, however long it takes; a verb that comes in between does the same."""
        pause = 0.5
        while not self._closed and self._connection is None:
            try:
                await self._connected()
            except Exception:  # edge: nobody awaits this, and giving up would leave the host deaf
                await self._world.clock.sleep(pause)
                pause = min(pause * 2, 15)

    async def _look_again(self) -> None:
        """Tell what happened while nobody listened.

        Not only once: a revived daemon sends no event for a guest that dies while the daemon takes it back.
        """
        for pause in (0, 1, 3, 10):
            await self._world.clock.sleep(pause)
            self._changed.put_nowait("")

    async def _in_thread(self, fn: Callable[..., T], *args: Any) -> T:
        return await asyncio.wrap_future(self._threads.submit(fn, *args))

    # ── power

    async def _tell(self) -> None:
        """Tell listeners each guest's power when it differs from what they were told last, in order."""
        while True:
            guest_id = await self._changed.get()
            try:
                seen = await self._call(calls.powers_of, guest_id, guest_id=guest_id, doing="asking")
            except Exception:  # edge: the reconnect that follows asks for all guests again
                continue
            gone = set(self._powers) - set(seen) if not guest_id else {guest_id} - set(seen)
            for known in gone:
                if self._powers.pop(known, None) in _ON:
                    self._told(known, Power.SHUTDOWN)
            for known, power in seen.items():
                if self._powers.get(known, Power.SHUTDOWN) is not power:
                    self._told(known, power)
                self._powers[known] = power

    def _told(self, guest_id: str, power: Power) -> None:
        for told in self._listeners:
            told(guest_id, power)


def _not_running(guest_id: str) -> Exception:
    return conflict(f"Guest {guest_id} is not running.", hint="Start the server first.")


def _tell_loop(loop: asyncio.AbstractEventLoop, fn: Callable[..., Any], *args: Any) -> None:
    """Call `fn` on the loop; from libvirt's thread, perhaps after the loop has ended."""
    try:
        loop.call_soon_threadsafe(fn, *args)
    except RuntimeError:
        pass
