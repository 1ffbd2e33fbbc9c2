"""What hosts and schedulers are told of a server."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from kilonova.block_storage.contract import Connection
from kilonova.network.contract import PortBinding, PortRequest


class Power(StrEnum):
    """What the hypervisor sees."""

    NOSTATE = "nostate"
    RUNNING = "running"
    PAUSED = "paused"
    SHUTDOWN = "shutdown"
    CRASHED = "crashed"
    SUSPENDED = "suspended"


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
    under_way: str = ""  # attaching | detaching: while an operation of its own brings or takes it


class Built(msgspec.Struct):
    """What a host made of a server's record: ports bound there, the block device mapping connected, a running guest."""

    ports: list[PortBinding]
    devices: list[BlockDevice]  # none when the server has no volumes
    power: Power


class Rescue(msgspec.Struct, frozen=True):
    """What a server is rescued with. Without `bus` the rescue disk takes the root's place and the root is second;
    with it every disk stays where it is and the rescue disk, of that kind, comes last."""

    image_id: str
    device: str = ""  # disk | cdrom
    bus: str = ""  # virtio | scsi | sata | ide


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
    trusted_certificates: list[str] = []  # that must stand behind its image's signature; none: the host's choice
    rescue: Rescue | None = None  # while it is rescued
    secrets: StepSecrets | None = None  # of the step that asks, while its operation runs


class StepSecrets(msgspec.Struct):
    """What is sealed in the operation and handed to the agent for a step that needs it."""

    token: str = ""
    admin_password: str = ""
