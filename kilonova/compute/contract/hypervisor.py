"""The ports of a host: what runs guests, and what keeps their disks. Adapters: node/hypervisor/, node/images/."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from kilonova.compute.contract.server import Power, ServerForHost
from kilonova.compute.contract.topology import NumaCell, PciDevice, Placed
from kilonova.image.contract import RemoteImage


class NetworkDisk(msgspec.Struct, frozen=True):
    """A RADOS block device, which QEMU reaches over the network with a key that the hypervisor keeps."""

    name: str  # pool/device
    monitors: tuple[tuple[str, int], ...]
    user: str
    secret_uuid: str


class Disk(msgspec.Struct, frozen=True):
    """A disk of a guest."""

    path: str  # for operators when it is over the network
    format: str  # raw | qcow2; always explicit
    target: str  # vda, vdb, hdd …
    bus: str = "virtio"  # virtio | scsi | ide | sata | usb
    device: str = "disk"  # disk | cdrom
    serial: str = ""
    boot_order: int = 0  # 1 first; 0 never
    read_only: bool = False
    shareable: bool = False
    cache: str = "writeback"
    network: NetworkDisk | None = None


class Nic(msgspec.Struct, frozen=True):
    """A NIC of a guest, on a tap that the L2 agent made."""

    port_id: str
    mac: str
    tap: str
    mtu: int
    model: str = "virtio"


class GuestSpec(msgspec.Struct, frozen=True):
    """A guest as the hypervisor must run it."""

    id: str  # the server's id, also the domain's UUID
    name: str  # domain name: prefix + instance-%08x
    vcpus: int
    memory_mb: int
    disks: tuple[Disk, ...]
    nics: tuple[Nic, ...]
    console_log: str  # path
    description: str = ""  # the server's name, for operators
    extra_specs: dict[str, str] = {}
    image_properties: dict[str, str] = {}
    vcpu_shares: int = 0
    placed: Placed = Placed()
    shared_cpus: tuple[int, ...] = ()  # of the host: where vCPUs without CPUs of their own run; (): anywhere


class Guest(msgspec.Struct, frozen=True):
    """A guest as the hypervisor sees it."""

    id: str
    name: str
    power: Power


class HypervisorInfo(msgspec.Struct, frozen=True):
    """What the hypervisor is and has."""

    type: str  # QEMU | KVM | fake
    version: int  # as libvirt counts: 7002000
    vcpus: int
    memory_mb: int
    cpu_info: dict[str, Any] = {}
    traits: tuple[str, ...] = ()
    cells: tuple[NumaCell, ...] = ()  # all CPUs are in `shared`: who may have which is not the hypervisor's to say
    pci_devices: tuple[PciDevice, ...] = ()  # filled by who asked `pci_devices`, where the host gives some away
    cpu_seconds: dict[str, float] = {}  # user, kernel, idle, iowait: of all CPUs since the host started


class DiskUse(msgspec.Struct, frozen=True):
    """What a guest did with a disk since it started; -1: not known."""

    target: str
    read_bytes: int = 0
    read_requests: int = 0
    write_bytes: int = 0
    write_requests: int = 0
    errors_count: int = -1


class NicUse(msgspec.Struct, frozen=True):
    """What went through a NIC, as the guest counts: rx is what it received."""

    mac: str
    tap: str
    rx_octets: int = 0
    rx_packets: int = 0
    rx_errors: int = 0
    rx_drop: int = 0
    tx_octets: int = 0
    tx_packets: int = 0
    tx_errors: int = 0
    tx_drop: int = 0


class GuestUse(msgspec.Struct, frozen=True):
    """What a running guest uses of its host."""

    hypervisor: str  # qemu | kvm | fake
    cpu_nanoseconds: tuple[int, ...] = ()  # by vCPU
    memory_kib: int = 0
    memory_used_kib: int = 0
    disks: tuple[DiskUse, ...] = ()
    nics: tuple[NicUse, ...] = ()


class Hypervisor(Protocol):
    """Runs guests on one host. Verbs are idempotent; none decides anything."""

    async def info(self) -> HypervisorInfo: ...

    async def pci_devices(self) -> tuple[PciDevice, ...]:
        """All PCI devices of the host; () where they cannot be told."""
        ...

    async def ensure_started(self, spec: GuestSpec, *, paused: bool = False) -> Guest:
        """Define if unknown, start if not running; with `paused`, vCPUs wait for `resume`."""
        ...

    async def resume(self, guest_id: str) -> Guest:
        """vCPUs run (again)."""
        ...

    async def ensure_stopped(self, guest_id: str, grace_seconds: float) -> Guest:
        """Off, still defined; memory that was saved is forgotten. ACPI first; power is cut after the grace."""
        ...

    async def pause(self, guest_id: str) -> Guest:
        """vCPUs stand still, memory stays in RAM, until `resume`. CONFLICT when it is off."""
        ...

    async def save(self, guest_id: str) -> Guest:
        """Off, with its memory on disk. Off already, whether or not memory was saved: as it is."""
        ...

    async def restore(self, spec: GuestSpec) -> Guest:
        """Runs on from its saved memory, told what time it is; boots when none was saved."""
        ...

    async def ensure_gone(self, guest_id: str) -> None:
        """Off and undefined; unknown is fine."""
        ...

    async def guest_agent_answers(self, guest_id: str) -> bool:
        """Whether an agent inside the guest takes commands."""
        ...

    async def set_password(self, guest_id: str, user: str, password: str) -> None:
        """Set by the agent inside the guest; CONFLICT when none answers, or it refuses."""
        ...

    async def inject_nmi(self, guest_id: str) -> None:
        """The guest gets a non-maskable interrupt, on which it may dump its memory. CONFLICT when it is off."""
        ...

    async def use(self, guest_id: str) -> GuestUse:
        """CONFLICT when it is not running."""
        ...

    async def guests(self) -> list[Guest]:
        """All guests of this cloud on this host."""
        ...

    async def copy_disk(self, guest_id: str, source: str, target: str, freeze: str) -> bool:
        """Copy what a running guest wrote above its disk's base into `target`, an overlay on the same base.

        `freeze`: "" never, "try" file systems are frozen when the guest's agent answers, "must" CONFLICT when it does
        not. False, and nothing copied, when the guest is off.
        """
        ...

    async def hold_still(self, guest_id: str, freeze: str) -> None:
        """File systems are frozen as `freeze` says, then vCPUs stand still, until `let_go_on`: nothing is written to
        a disk meanwhile. Off, or still already: nothing to do."""
        ...

    async def let_go_on(self, guest_id: str, freeze: str) -> None:
        """Undo of `hold_still`: vCPUs run, file systems thaw. Off: nothing to do."""
        ...

    async def attach_disk(self, guest_id: str, disk: Disk) -> None:
        """The guest has the disk, now and at its next start. It has it, or is not defined: nothing to do."""
        ...

    async def disk_grew(self, guest_id: str, serial: str) -> None:
        """The guest is told that the file behind its disk of that serial is larger now; off, or without it: nothing."""
        ...

    async def detach_disk(self, guest_id: str, serial: str) -> None:
        """The guest has no disk of that serial any more. CONFLICT when it does not let go in time."""
        ...

    async def attach_nic(self, guest_id: str, nic: Nic) -> None:
        """The guest has the NIC, now and at its next start. It has it, or is not defined: nothing to do."""
        ...

    async def detach_nic(self, guest_id: str, mac: str) -> None:
        """The guest has no NIC with that address any more. CONFLICT when it does not let go in time."""
        ...

    async def vnc_address(self, guest_id: str) -> tuple[str, int]:
        """CONFLICT when it is not running."""
        ...

    def on_power_change(self, told: Callable[[str, Power], None]) -> None:
        """Call `told(guest id, power)` on the event loop whenever a guest's power changes."""
        ...

    async def close(self) -> None: ...


class LocalDisks(Protocol):
    """Root, ephemeral, swap and config-drive files of guests, and the image cache; adapters in node/images/."""

    async def ensure_image(self, image: RemoteImage) -> str:
        """Path of the immutable cached image in raw or qcow2, fetched when it is missing."""
        ...

    async def ensure_disks(self, server: ServerForHost, admin_password: str) -> list[Disk]:
        """Root overlay, ephemeral, swap, config drive: made once, kept when there."""
        ...

    async def rescue_disks(self, server: ServerForHost, admin_password: str) -> list[Disk]:
        """The disk that the server is rescued with, over a cached image, and a config drive with the password when it
        has one: made once, kept when there."""
        ...

    async def drop_rescue_disks(self, server_id: str) -> None:
        """Gone; not there is fine."""
        ...

    async def drop_disks(self, server_id: str) -> None:
        """Gone, and what is kept of older ones too."""
        ...

    async def resize_disks(self, server: ServerForHost) -> None:
        """Copies as large as the flavor says are in use; the old ones are kept. Kept already: nothing."""
        ...

    async def replace_disks(self, server: ServerForHost, keep_ephemeral: bool) -> None:
        """The old disks are kept; `ensure_disks` makes others. Kept already: nothing."""
        ...

    async def restore_disks(self, server_id: str) -> None:
        """The kept disks are in use again, the others gone. None are kept: nothing."""
        ...

    async def forget_disks(self, server_id: str) -> None:
        """The kept disks are gone."""
        ...

    async def start_snapshot(self, server: ServerForHost, image_id: str) -> tuple[str, str]:
        """(path of the root disk, path of a new overlay on the same base, which QEMU may write). ("", "") where the
        disks themselves can be copied as they are at one moment, which `finish_snapshot` then does."""
        ...

    async def finish_snapshot(self, server_id: str, image_id: str, *, copied: bool) -> None:
        """Flatten the overlay (`copied`) or else the root disk itself, which nobody writes then, into one file."""
        ...

    def snapshot_path(self, server_id: str, image_id: str) -> str: ...

    async def drop_snapshot(self, server_id: str, image_id: str) -> None: ...

    async def console_log(self, server_id: str, length: int | None) -> str: ...

    def console_path(self, server_id: str) -> str: ...

    async def free_gb(self) -> int: ...

    async def total_gb(self) -> int: ...
