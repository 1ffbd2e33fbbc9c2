"""Where a server's disks stand: the names by which users and guests know them, as a pure function of the record."""

from __future__ import annotations

from collections.abc import Iterable

from kilonova.base.faults import forbidden
from kilonova.compute.contract import BlockDevice
from kilonova.compute.server.store import Server

LETTERS = "abcdefghijklmnopqrstuvwxyz"
PREFIX = "/dev/vd"


def give_names(server: Server, devices: list[BlockDevice]) -> None:
    """Every volume of `devices` that has no name gets the one its guest knows it by, in the order of the mapping."""
    taken = _local_names(server, devices)
    volumes = [device for device in devices if device.destination_type == "volume"]
    for device in sorted(volumes, key=lambda one: (one.boot_index is None or one.boot_index < 0, one.boot_index or 0)):
        if not device.device_name or device.device_name in taken:
            device.device_name = _free(taken, is_root=device.boot_index == 0)
        taken.add(device.device_name)


def name_for_new(server: Server, devices: list[BlockDevice], wanted: str) -> str:
    """A name for one more disk: the wanted one when a guest can have it, else the first that is free."""
    taken = _local_names(server, devices) | {device.device_name for device in devices}
    if wanted.startswith(PREFIX) and len(wanted) == len(PREFIX) + 1 and wanted not in {*taken, f"{PREFIX}a"}:
        return wanted
    return _free(taken, is_root=False)


def _local_names(server: Server, devices: Iterable[BlockDevice]) -> set[str]:
    """Root, ephemeral and swap disks stand first, in this order."""
    flavor = server.flavor_struct
    blanks = [one for one in devices if (one.source_type, one.destination_type) == ("blank", "local")]
    asked = sum(1 for one in blanks if one.guest_format != "swap")
    ephemerals = asked or int(flavor.ephemeral_gb > 0)
    count = ephemerals + int(flavor.swap_mb > 0)
    root = {f"{PREFIX}a"} if server.image_id else set()
    return root | {f"{PREFIX}{letter}" for letter in LETTERS[1 : 1 + count]}


def _free(taken: set[str], *, is_root: bool) -> str:
    for letter in LETTERS if is_root else LETTERS[1:]:
        if f"{PREFIX}{letter}" not in taken:
            return f"{PREFIX}{letter}"
    raise forbidden(
        "The maximum allowed number of disk devices (26) to attach to a single instance has been exceeded.",
        hint="Detach a volume first.",
        code="TooManyDiskDevices",
    )
