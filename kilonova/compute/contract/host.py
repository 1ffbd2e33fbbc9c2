"""A compute host's verbs: the steps of server operations, and plain calls."""

from __future__ import annotations

from typing import Protocol

import msgspec

from kilonova.block_storage.contract import Connection
from kilonova.bus import rpc
from kilonova.compute.contract.hypervisor import GuestUse
from kilonova.compute.contract.server import BlockDevice, Built, Power
from kilonova.network.contract import PortBinding, PortRequest


class ComputeHost(Protocol):
    """Journalled verbs of the compute agent (steps over `bus.steps`, on `compute.HOST`). All may be repeated."""

    async def build_and_run_instance(self, server_id: str, volumes: bool) -> Built:
        """Fetch the record; bring the image into the cache; create or adopt each requested port, bound here; create
        and attach `volumes` when there are any; make disks and config drive, define and start the guest.

        Shows networking, block_device_mapping, spawning. Waits until network says the ports are up.
        """
        ...

    async def bring_image(self, server_id: str, image_id: str) -> None:
        """The image is in the host's cache, for the server: to be rebuilt with it, or rescued."""
        ...

    async def rescue(self, server_id: str) -> Power:
        """The guest, whatever it did, boots from the rescue disk that its record asks for."""
        ...

    async def unrescue(self, server_id: str) -> None:
        """The guest is off, and has no rescue disk."""
        ...

    async def forget_rescue_disks(self, server_id: str) -> None:
        """Of a guest that boots from its own disk: what it was rescued with is gone."""
        ...

    async def attach_volumes(self, server_id: str) -> list[BlockDevice]:
        """Create volumes that are asked for, attach all; answers the mapping with connection data."""
        ...

    async def reconnect_volumes(self, server_id: str) -> list[BlockDevice]:
        """Connect what is attached to the server once more; answers the mapping with fresh connection data."""
        ...

    async def connect_volume(self, server_id: str, device_id: str) -> Connection:
        """The volume of one block device is connected to this host; answers how QEMU reaches it."""
        ...

    async def plug_volume(self, server_id: str, device_id: str) -> None:
        """The guest has the device's disk, now and at its next start; not when block storage took it back meanwhile."""
        ...

    async def unplug_volume(self, server_id: str, device_id: str) -> None:
        """The guest let go of the disk. CONFLICT when it does not in time: it then still has it."""
        ...

    async def bind_port(self, server_id: str, key: str, wanted: PortRequest) -> PortBinding:
        """One more port, made or adopted, bound here. `key` makes repeats harmless."""
        ...

    async def unbind_port(self, server_id: str, key: str, wanted: PortRequest) -> None:
        """Undo of `bind_port`, also of one that was cut off."""
        ...

    async def plug_port(self, server_id: str, port: PortBinding) -> None:
        """The guest has a NIC on the port, which is up."""
        ...

    async def unplug_port(self, server_id: str, port: PortBinding) -> None:
        """The guest let go of the port's NIC. CONFLICT when it does not in time."""
        ...

    async def release_port(self, server_id: str, port: PortBinding) -> None:
        """The port is deleted when it was made for the server, else set free; already gone is fine."""
        ...

    async def snapshot(self, server_id: str, image_id: str) -> None:
        """A file on the host holds what the root disk holds at this moment, whole and by itself."""
        ...

    async def hold_still(self, server_id: str) -> None:
        """The guest writes to no disk until `let_go_on`; its file systems are frozen first when its image asks so."""
        ...

    async def let_go_on(self, server_id: str) -> None:
        """The guest runs on from where it was held still."""
        ...

    async def upload_snapshot(self, server_id: str, image_id: str) -> None:
        """The image has the file's bytes; the file is gone."""
        ...

    async def drop_snapshot(self, server_id: str, image_id: str) -> None:
        """No file of that snapshot is on the host."""
        ...

    async def terminate_instance(self, server_id: str, volumes: bool, ports: list[PortBinding]) -> None:
        """The end of a server here: guest and local disks are gone; all `volumes`, when there may be any, detached, and
        those deleted that go with it; ports made for it deleted, the others set free: `ports`, and any that network
        knows besides."""
        ...

    async def remove(self, server_id: str, volumes: bool) -> None:
        """The undo of a build: `terminate_instance` with the ports that the record names."""
        ...

    async def resize_disks(self, server_id: str) -> None:
        """Of a guest that is off: disks as large as its flavor says; the old ones are kept."""
        ...

    async def rebuild_disks(self, server_id: str, keep_ephemeral: bool) -> None:
        """The guest is off, on new disks from the record's image; the old ones are kept."""
        ...

    async def restore_disks(self, server_id: str) -> None:
        """The guest is off, on the disks that were kept; none are kept: on those it has."""
        ...

    async def forget_disks(self, server_id: str) -> None:
        """What was kept is gone."""
        ...

    async def start(self, server_id: str) -> Power: ...

    async def stop(self, server_id: str, grace_seconds: float) -> Power:
        """ACPI first, power cut after `grace_seconds` (0: at once). A guest that is not there is off."""
        ...

    async def interrupted(self, server_id: str) -> None:
        """Undo of a wait for the guest: nobody waits any more, the guest is left as it is."""
        ...

    async def pause(self, server_id: str) -> Power:
        """vCPUs stand still, memory stays in RAM."""
        ...

    async def unpause(self, server_id: str) -> Power: ...

    async def suspend(self, server_id: str) -> Power:
        """Memory to disk, process ended."""
        ...

    async def resume(self, server_id: str) -> Power:
        """Runs on from its saved memory."""
        ...

    async def set_password(self, server_id: str) -> None:
        """The guest's agent sets the administrator's password to the one that is sealed in the operation."""
        ...


class Screen(msgspec.Struct, frozen=True):
    """Where a guest's screen is reached: its VNC itself, in the host's own network namespace.

    With a `ticket` it is the host's console relay, told the ticket and a newline first; TLS as its host if `encrypted`.
    """

    address: str
    port: int
    ticket: str = ""
    encrypted: bool = False

    def __repr__(self) -> str:
        return f"Screen({self.address}:{self.port})"


class ComputeAgent(Protocol):
    """Plain calls and casts to the compute agent, on `compute.HOST`."""

    @rpc.cast
    async def external_instance_event(self, server_id: str, event: str, tag: str) -> None:
        """`network-vif-plugged` for port `tag`, …"""
        ...

    @rpc.cast
    async def cache_images(self, image_ids: list[str], token: str) -> None:
        """Bring these images into the host's cache, so that servers of them boot at once. `token` is that of the
        admin who asked. What cannot be brought is logged; the rest goes on."""
        ...

    @rpc.call()
    async def get_power(self, server_id: str) -> Power:
        """What the hypervisor sees now; nostate when it has no such guest."""
        ...

    @rpc.call()
    async def guest_agent_answers(self, server_id: str) -> bool:
        """Whether an agent inside the guest takes commands."""
        ...

    @rpc.call()
    async def get_diagnostics(self, server_id: str) -> GuestUse:
        """What the guest uses; CONFLICT when it is not running."""
        ...

    @rpc.call()
    async def trigger_crash_dump(self, server_id: str) -> None:
        """The guest gets a non-maskable interrupt; CONFLICT when it is off."""
        ...

    @rpc.call()
    async def get_console_output(self, server_id: str, length: int | None) -> str: ...

    @rpc.call()
    async def get_vnc_console(self, server_id: str) -> Screen:
        """Where the guest's VNC is reached now."""
        ...
