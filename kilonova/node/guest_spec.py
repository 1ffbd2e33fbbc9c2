"""From a server's record to the guest that a hypervisor runs: a pure function, so that start and spawn agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace

from kilonova.base.faults import bug
from kilonova.compute.contract import BlockDevice, Disk, GuestSpec, NetworkDisk, Nic, Rescue, ServerForHost

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def guest_spec(
    server: ServerForHost, local: list[Disk], tap_name: Callable[[str], str], console_log: str, prefix: str
) -> GuestSpec:
    """The guest of `server` with its local disks, its attached volumes and its ports' taps."""
    volumes = [device for device in server.block_devices if _is_in(device)]
    taken = {disk.target for disk in local}
    disks = list(local)
    for device in sorted(volumes, key=lambda one: (one.boot_index is None or one.boot_index < 0, one.boot_index or 0)):
        target = _target(device, taken)
        taken.add(target)
        disks.append(_volume_disk(device, target))
    nics = [Nic(port.id, port.mac, tap_name(port.id), port.mtu) for port in server.ports]
    return GuestSpec(
        id=server.id,
        name=f"{prefix}-instance-{server.number:08x}",
        vcpus=server.flavor.vcpus,
        memory_mb=server.flavor.memory_mb,
        disks=tuple(disks),
        nics=tuple(nics),
        console_log=console_log,
        description=server.name,
        extra_specs=server.flavor.extra_specs,
        image_properties=server.image_properties,
    )


def rescued_spec(spec: GuestSpec, rescue: Rescue, disks: Sequence[Disk]) -> GuestSpec:
    """The guest booted from the first of `disks`; the second, if any, is the config drive instead of its own."""
    boot, *config = disks
    own = [replace(disk, boot_order=0) for disk in spec.disks if not (config and disk.target == config[0].target)]
    if rescue.bus:
        taken = {disk.target for disk in (*own, *config)}
        kind = {"virtio": "vd", "ide": "hd"}.get(rescue.bus, "sd")
        target = next(name for letter in LETTERS if (name := f"{kind}{letter}") not in taken)
        boot = replace(boot, target=target, bus=rescue.bus, device=rescue.device, read_only=rescue.device == "cdrom")
        return replace(spec, disks=(*own, *config, boot))
    letters = iter(LETTERS[1:])
    own = [replace(disk, target=f"vd{next(letters)}") if disk.target.startswith("vd") else disk for disk in own]
    return replace(spec, disks=(boot, *own, *config))


def _is_in(device: BlockDevice) -> bool:
    """Whether the device is a volume that the guest has; one that is on its way in or out is not (any more)."""
    if device.destination_type != "volume" or device.under_way == "detaching":
        return False
    return not (device.under_way == "attaching" and device.connection is None)


def volume_disk(device: BlockDevice) -> Disk:
    """The disk of an attached volume, at the place that its record names."""
    return _volume_disk(device, device.device_name.removeprefix("/dev/"))


def _volume_disk(device: BlockDevice, target: str) -> Disk:
    connection = device.connection
    network = _rbd(connection.data) if connection is not None and connection.driver_volume_type == "rbd" else None
    if connection is None or (network is None and "path" not in connection.data):
        raise bug(f"volume {device.volume_id} has no connection that this host can use")
    return Disk(
        path=f"rbd:{network.name}" if network else str(connection.data["path"]),
        network=network,
        format=str(connection.data.get("format", "raw")),
        target=target,
        bus=device.disk_bus or "virtio",
        device="cdrom" if device.device_type == "cdrom" else "disk",
        serial=device.volume_id,
        boot_order=device.boot_index + 1 if device.boot_index is not None and device.boot_index >= 0 else 0,
        shareable=bool(connection.data.get("shareable", False)),
        cache="none" if connection.data.get("shareable") else "writeback",
    )


def _rbd(data: dict[str, Any]) -> NetworkDisk:
    """As block storage's drivers tell a RADOS block device."""
    monitors = tuple((str(host), int(port)) for host, port in zip(data["hosts"], data["ports"], strict=True))
    return NetworkDisk(str(data["name"]), monitors, str(data["auth_username"]), str(data["secret_uuid"]))


def _target(device: BlockDevice, taken: set[str]) -> str:
    """The wanted device name when it is free, else the first free one; the root goes first."""
    wanted = device.device_name.removeprefix("/dev/")
    if wanted and wanted not in taken:
        return wanted
    start = 0 if device.boot_index == 0 else 1
    for letter in LETTERS[start:] + LETTERS[:start]:
        if f"vd{letter}" not in taken:
            return f"vd{letter}"
    raise bug("a guest has more disks than letters")
