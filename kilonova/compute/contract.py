"""Compute's contract: RPC between API, conductor, scheduler and agents; the host's verbs; the hypervisor's port."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any, Protocol

import msgspec

from kilonova.block_storage.contract import Connection
from kilonova.bus import rpc
from kilonova.network.contract import PortBinding, PortRequest

EXCHANGE = "nova"
CONDUCTOR_TOPIC = "conductor"
SCHEDULER_TOPIC = "scheduler"
COMPUTE_TOPIC = "compute"


class Power(StrEnum):
    """What the hypervisor sees."""

    NOSTATE = "nostate"
    RUNNING = "running"
    PAUSED = "paused"
    SHUTDOWN = "shutdown"
    CRASHED = "crashed"
    SUSPENDED = "suspended"


# ── what the scheduler is asked and answers


class Flavor(msgspec.Struct, frozen=True):
    """A flavor as it was when the server was made: later edits of the flavor do not change the server."""

    id: str
    name: str
    vcpus: int
    memory_mb: int
    root_gb: int
    ephemeral_gb: int = 0
    swap_mb: int = 0
    rxtx_factor: float = 1.0
    extra_specs: dict[str, str] = {}


class RequestSpec(msgspec.Struct):
    """What a server needs of a host."""

    server_id: str
    project_id: str
    user_id: str
    flavor: Flavor
    resources: dict[str, int]  # VCPU, MEMORY_MB, DISK_GB, … from flavor and whether it boots from a volume
    image_properties: dict[str, str] = {}
    availability_zone: str = ""
    requested_host: str = ""
    scheduler_hints: dict[str, Any] = {}
    ignore_hosts: list[str] = []


class Destination(msgspec.Struct, frozen=True):
    """A host that fits, with the resources claimed there (for the first) or to be claimed (for alternates)."""

    host: str
    node: str
    provider_id: str
    resources: dict[str, int]


class Rejection(msgspec.Struct, frozen=True):
    """Why a host was not chosen; host names are for operators only."""

    host: str
    filter: str
    reason: str


class Scheduler(Protocol):
    """Served on topic `scheduler`."""

    @rpc.call(30)
    async def select_destinations(self, spec: RequestSpec) -> list[Destination]:
        """The chosen host, claimed in placement, then up to 2 alternates. NO_CAPACITY with reasons when none fits."""
        ...


# ── what a host is told of a server


class BlockDevice(msgspec.Struct):
    """One entry of the block device mapping, as the host builds it."""

    id: str
    source_type: str  # image | volume | snapshot | blank
    destination_type: str  # local | volume
    boot_index: int | None
    device_name: str = ""
    device_type: str = "disk"
    disk_bus: str = "virtio"
    volume_id: str = ""
    image_id: str = ""
    snapshot_id: str = ""
    volume_size_gib: int = 0
    volume_type: str = ""
    delete_on_termination: bool = False
    guest_format: str = ""
    tag: str = ""
    attachment_id: str = ""
    connection: Connection | None = None
    no_device: bool = False


class ServerForHost(msgspec.Struct):
    """Everything a host may know of a server that lives on it. Answered only to that host."""

    id: str
    number: int  # counts servers; shows as instance-%08x
    name: str
    hostname: str
    project_id: str
    user_id: str
    availability_zone: str
    flavor: Flavor
    image_id: str  # "" when it boots from a volume
    image_properties: dict[str, str]
    key_name: str
    public_key: str
    user_data: str  # base64, or ""
    config_drive: bool
    metadata: dict[str, str]
    personality: list[tuple[str, str]]  # (path, base64)
    port_requests: list[PortRequest]
    security_groups: list[str]
    block_devices: list[BlockDevice]
    ports: list[PortBinding]
    created_at: str
    launch_index: int = 0
    reservation_id: str = ""
    tags: list[str] = []


class StepSecrets(msgspec.Struct):
    """What is sealed in the operation and handed to the agent for a step that needs it."""

    token: str = ""
    admin_password: str = ""


class HostReport(msgspec.Struct):
    """A host's resources and powers, sent every 10 s (heartbeat) to the conductor."""

    host: str
    node: str
    hypervisor_type: str
    hypervisor_version: int
    vcpus: int
    memory_mb: int
    disk_gb: int
    host_ip: str
    cpu_info: dict[str, Any] = {}
    traits: list[str] = []
    vcpus_used: int = 0
    memory_mb_used: int = 0
    disk_gb_used: int = 0
    free_disk_gb: int = 0
    running_servers: int = 0
    started_at: str = ""


class SeenGuest(msgspec.Struct, frozen=True):
    """A guest that a host has."""

    server_id: str
    power: Power


class Conductor(Protocol):
    """Served on topic `conductor`. A compute host is answered only about servers on that host."""

    @rpc.cast
    async def build_instances(self, operation_id: str) -> None:
        """A create waits as an operation row: lease it and run it."""
        ...

    @rpc.cast
    async def run_operation(self, operation_id: str) -> None:
        """Any other operation waits."""
        ...

    @rpc.call()
    async def server_for_host(self, host: str, server_id: str) -> ServerForHost: ...

    @rpc.call()
    async def step_secrets(self, host: str, operation_id: str, epoch: int) -> StepSecrets:
        """The operation's sealed secrets, while it runs, for a host that has one of its steps."""
        ...

    @rpc.call()
    async def report_host(self, report: HostReport) -> None: ...

    @rpc.call()
    async def guests_seen(self, host: str, guests: list[SeenGuest], *, full: bool) -> list[str]:
        """Power states changed (or all of them, `full`). Answers server ids that should not be on this host."""
        ...

    @rpc.call()
    async def servers_to_run(self, host: str) -> list[str]:
        """Servers on the host that ran when it was last seen, and that nobody stopped: after a machine's restart."""
        ...

    @rpc.call()
    async def check_console(self, token: str) -> tuple[str, str] | None:
        """(server id, host) that a console token opens, used up by this call; None when refused."""
        ...


class ComputeHost(Protocol):
    """Journalled verbs of the compute agent (steps over `bus.steps`, on `compute.HOST`). All may be repeated."""

    async def build_and_run_instance(self, server_id: str) -> dict[str, Any]:
        """Fetch the record; check room; bring the image into the cache. Answers {"image_virtual_gb": n}."""
        ...

    async def bind_ports(self, server_id: str) -> list[PortBinding]:
        """Create or adopt each requested port, bound here."""
        ...

    async def unbind_ports(self, server_id: str) -> None:
        """Delete the ports made for the server, unbind the others."""
        ...

    async def attach_volumes(self, server_id: str) -> list[BlockDevice]:
        """Create volumes that are asked for, attach all; answers the mapping with connection data."""
        ...

    async def detach_volumes(self, server_id: str) -> None:
        """Detach all; delete those marked delete_on_termination."""
        ...

    async def spawn(self, server_id: str) -> Power:
        """Disks, config drive, guest defined and started; waits until network says the ports are up."""
        ...

    async def destroy(self, server_id: str) -> None:
        """Guest and its local disks are gone; already gone is fine."""
        ...

    async def start(self, server_id: str) -> Power: ...

    async def stop(self, server_id: str, grace_seconds: float) -> Power:
        """ACPI first, power cut after `grace_seconds` (0: at once)."""
        ...


class ComputeAgent(Protocol):
    """Plain calls and casts to the compute agent, on `compute.HOST`."""

    @rpc.cast
    async def external_instance_event(self, server_id: str, event: str, tag: str) -> None:
        """`network-vif-plugged` for port `tag`, …"""
        ...

    @rpc.call()
    async def get_console_output(self, server_id: str, length: int | None) -> str: ...

    @rpc.call()
    async def get_vnc_console(self, server_id: str) -> tuple[str, int]:
        """(address, port) of the guest's VNC, as reached in the host's own network namespace."""
        ...


# ── the hypervisor's port; adapters: node/hypervisor/libvirt.py, node/hypervisor/fake.py


class Disk(msgspec.Struct, frozen=True):
    """A disk of a guest."""

    path: str
    format: str  # raw | qcow2; always explicit
    target: str  # vda, vdb, hdd …
    bus: str = "virtio"  # virtio | scsi | ide | sata | usb
    device: str = "disk"  # disk | cdrom
    serial: str = ""
    boot_order: int = 0  # 1 first; 0 never
    read_only: bool = False
    shareable: bool = False
    cache: str = "writeback"


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


class Hypervisor(Protocol):
    """Runs guests on one host. Verbs are idempotent; none decides anything."""

    async def info(self) -> HypervisorInfo: ...

    async def ensure_started(self, spec: GuestSpec, *, paused: bool = False) -> Guest:
        """Define if unknown, start if not running; with `paused`, vCPUs wait for `resume`."""
        ...

    async def resume(self, guest_id: str) -> Guest:
        """vCPUs run (again)."""
        ...

    async def ensure_stopped(self, guest_id: str, grace_seconds: float) -> Guest:
        """Off, still defined. ACPI first; power is cut after the grace."""
        ...

    async def ensure_gone(self, guest_id: str) -> None:
        """Off and undefined; unknown is fine."""
        ...

    async def guests(self) -> list[Guest]:
        """All guests of this cloud on this host."""
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

    async def ensure_image(self, image_id: str, fetch: Callable[[str], Any], min_free_bytes: int) -> str:
        """Path of the immutable cached image in raw or qcow2; `await fetch(path)` downloads it when missing."""
        ...

    async def ensure_disks(self, server: ServerForHost, admin_password: str) -> list[Disk]:
        """Root overlay, ephemeral, swap, config drive: made once, kept when there."""
        ...

    async def drop_disks(self, server_id: str) -> None: ...

    async def console_log(self, server_id: str, length: int | None) -> str: ...

    def console_path(self, server_id: str) -> str: ...

    async def free_gb(self) -> int: ...

    async def total_gb(self) -> int: ...
