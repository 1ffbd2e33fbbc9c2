"""What a new server boots from and which disks it gets: the image or the block device mapping, checked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import msgspec

from kilonova.base.faults import Fault, Kind, invalid
from kilonova.base.ids import is_uuid
from kilonova.base.units import GIB, MIB
from kilonova.block_storage.contract import SnapshotRef, VolumeRef
from kilonova.compute.contract import BlockDevice, Flavor
from kilonova.http.schema import convert, since
from kilonova.http.versions import Version
from kilonova.image.contract import ImageRef

ROOT = "/dev/vda"


class Mapping(msgspec.Struct, forbid_unknown_fields=True):
    """One entry of block_device_mapping_v2."""

    source_type: str
    uuid: str | None = None
    destination_type: str | None = None
    boot_index: int | str | None = None
    volume_size: int | str | None = None
    delete_on_termination: bool | str = False
    device_name: str | None = None
    device_type: str | None = None
    disk_bus: str | None = None
    guest_format: str | None = None
    no_device: bool | str = False
    tag: Annotated[str | None, since("2.42")] = None
    volume_type: Annotated[str | None, since("2.67")] = None


class BootSource(msgspec.Struct):
    """The checked answer: the devices, the image's properties as the server keeps them, and the least it needs."""

    devices: list[BlockDevice]
    image_id: str
    image_properties: dict[str, str]
    from_volume: bool
    least_memory_mb: int = 0
    least_disk_gb: int = 0


def devices_from(entries: list[Any], version: Version, new_id: Callable[[], str]) -> list[BlockDevice]:
    """Block devices of the request's mapping; INVALID names the entry's fault."""
    made = []
    for number, entry in enumerate(entries):
        mapping = convert(entry, Mapping, version, f"server.block_device_mapping_v2[{number}]")
        if not truth(mapping.no_device, "no_device"):
            made.append(_device(mapping, new_id()))
    return made


def _device(mapping: Mapping, device_id: str) -> BlockDevice:
    source = mapping.source_type
    if source not in ("image", "volume", "snapshot", "blank"):
        raise invalid(f"Invalid source_type {source[:40]!r}.", hint="Use volume, image, snapshot or blank.")
    destination = mapping.destination_type or ("local" if source == "blank" else "volume")
    if destination not in ("local", "volume"):
        raise invalid(f"Invalid destination_type {destination[:40]!r}.", hint="Use local or volume.")
    if source in ("volume", "snapshot") and destination == "local":
        raise invalid(f"Block Device Mapping is Invalid: Mapping {source} to local is not supported.")
    if source != "blank" and not is_uuid(mapping.uuid or ""):
        raise invalid(f"Block Device Mapping is Invalid: {source} needs its uuid.")
    index = _whole(mapping.boot_index, "boot_index")
    size = _whole(mapping.volume_size, "volume_size") or 0
    if size < 0 or (size == 0 and destination == "volume" and source in ("image", "blank")):
        raise invalid("Block Device Mapping is Invalid: Blank volumes and volumes made from images need a volume_size.")
    if source == "image" and destination == "local" and index != 0:
        raise invalid("Block Device Mapping is Invalid: Mapping image to local is not supported.")
    return BlockDevice(
        id=device_id,
        source_type=source,
        destination_type=destination,
        boot_index=index,
        device_name=mapping.device_name or "",
        device_type=mapping.device_type or "disk",
        disk_bus=mapping.disk_bus or "virtio",
        volume_id=mapping.uuid or "" if source == "volume" else "",
        image_id=mapping.uuid or "" if source == "image" else "",
        snapshot_id=mapping.uuid or "" if source == "snapshot" else "",
        volume_size_gib=size,
        volume_type=mapping.volume_type or "",
        delete_on_termination=truth(mapping.delete_on_termination, "delete_on_termination"),
        guest_format=mapping.guest_format or "",
        tag=mapping.tag or "",
    )


def devices_of_image(image: ImageRef, version: Version, new_id: Callable[[], str]) -> list[BlockDevice]:
    """What an image that stands for snapshots of volumes says of a server's disks; [] for one with bytes of its own."""
    written = image.properties.get("block_device_mapping", "")
    if not written or image.properties.get("bdm_v2", "").lower() not in ("true", "1"):
        return []
    try:
        entries = msgspec.json.decode(written, type=list[dict[str, Any]])
    except msgspec.MsgspecError as error:
        raise invalid(f"Image {image.id} carries a block device mapping that cannot be read.") from error
    known = {*Mapping.__struct_fields__} - {"uuid", "no_device", "volume_type", "tag"}
    made = []
    for entry in entries:
        wanted = {name: value for name, value in entry.items() if name in known and value is not None}
        uuid = next((entry[key] for key in ("snapshot_id", "volume_id", "image_id") if entry.get(key)), None)
        more = (
            [] if entry.get("no_device") else devices_from([wanted | ({"uuid": uuid} if uuid else {})], version, new_id)
        )
        for device in more:
            device.tag, device.volume_type = str(entry.get("tag") or ""), str(entry.get("volume_type") or "")
        made += more
    return made


def merged(image: list[BlockDevice], asked: list[BlockDevice]) -> list[BlockDevice]:
    """The image's devices but for those in whose place the request names its own: by boot order or by device name."""
    orders = {one.boot_index for one in asked if one.boot_index is not None and one.boot_index >= 0}
    names = {one.device_name for one in asked if one.device_name}
    return [one for one in image if one.boot_index not in orders and one.device_name not in names] + asked


def with_root(devices: list[BlockDevice], image_id: str, new_id: str) -> list[BlockDevice]:
    """The devices with the image's local root disk first, when an image is named; boot order checked."""
    if image_id and not any(
        d.boot_index == 0 and (d.image_id, d.destination_type) == (image_id, "local") for d in devices
    ):
        root = BlockDevice(new_id, "image", "local", 0, ROOT, image_id=image_id, delete_on_termination=True)
        devices = [root, *devices]
    order = sorted(d.boot_index for d in devices if d.boot_index is not None and d.boot_index >= 0)
    if not order or order != list(range(len(order))):
        raise invalid(
            "Block Device Mapping is Invalid: Boot sequence for the instance and image/block device mapping "
            "combination is not valid.",
            hint="Exactly one device has boot_index 0, others follow without gaps; name an image or a boot volume.",
        )
    return devices


async def choose(
    devices: list[BlockDevice],
    flavor: Flavor,
    show_image: Callable[[str], Awaitable[ImageRef]],
    show_volume: Callable[[str], Awaitable[VolumeRef]],
    show_snapshot: Callable[[str], Awaitable[SnapshotRef]],
) -> BootSource:
    """Everything the server boots from and mounts exists, is ready and fits the flavor."""
    root = next(d for d in devices if d.boot_index == 0)
    properties: dict[str, str] = {}
    least_memory_mb = least_disk_gb = 0
    for device in devices:
        if device.image_id:
            image = await found(show_image(device.image_id), f"Image {device.image_id}")
            room_gib = device.volume_size_gib if device.destination_type == "volume" else flavor.root_gb
            check_image(image, flavor, room_gib)
            least_memory_mb = max(least_memory_mb, image.min_ram_mb)
            if device.destination_type == "local":
                least_disk_gb = least_gib(image)
            if device is root:
                properties = dict(image.properties) | {"disk_format": image.disk_format}
        elif device.source_type == "volume":
            volume = await found(show_volume(device.volume_id), f"Volume {device.volume_id}")
            _check_volume(volume, is_root=device is root)
            if device is root:
                properties = dict(volume.image_metadata)
            device.volume_size_gib = volume.size_gib
        elif device.source_type == "snapshot":
            snapshot = await found(show_snapshot(device.snapshot_id), f"Snapshot {device.snapshot_id}")
            volume = await found(show_volume(snapshot.volume_id), f"Volume {snapshot.volume_id}")
            _check_snapshot(snapshot, volume, device, is_root=device is root)
            if device is root:
                properties = dict(volume.image_metadata)
            device.volume_size_gib = device.volume_size_gib or snapshot.size_gib
    _check_local(devices, flavor)
    from_volume = root.destination_type == "volume"
    image_id = "" if from_volume else root.image_id
    return BootSource(devices, image_id, properties, from_volume, least_memory_mb, least_disk_gb)


async def found(asked: Awaitable[Any], noun: str) -> Any:
    """What a peer answers; INVALID when there is no such noun."""
    try:
        return await asked
    except Fault as fault:
        if fault.kind is Kind.NOT_FOUND:
            raise invalid(f"{noun} could not be found.") from fault
        raise


def check_image(image: ImageRef, flavor: Flavor, room_gib: int) -> None:
    """The image is ready, and fits the flavor and `room_gib` of disk."""
    if image.status != "active":
        raise invalid(f"Image {image.id} is not active.", hint=f"It is {image.status}.", code="ImageNotActive")
    check_fits(image, flavor, room_gib)


def least_gib(image: ImageRef) -> int:
    """The smallest root disk that the image fits on."""
    return max(image.min_disk_gb, -(-max(image.size, image.virtual_size or 0) // GIB))


def check_fits(image: ImageRef, flavor: Flavor, room_gib: int) -> None:
    """The flavor's memory and `room_gib` of disk are enough for the image; 0 is as much as it needs."""
    if image.min_ram_mb > flavor.memory_mb:
        raise invalid(
            "Flavor's memory is too small for requested image.", hint=f"The image needs {image.min_ram_mb} MB."
        )
    if room_gib == 0:
        return  # the root disk is as large as the image
    if image.min_disk_gb > room_gib:
        raise invalid(
            "Flavor's disk is smaller than the minimum size specified in image metadata.",
            hint=f"The image needs {image.min_disk_gb} GB, there are {room_gib}.",
        )
    if max(image.size, image.virtual_size or 0) > room_gib * GIB:
        need_mib = max(image.size, image.virtual_size or 0) // MIB
        raise invalid(
            "Flavor's disk is too small for requested image.", hint=f"It is {need_mib} MB, there are {room_gib} GB."
        )


def _check_volume(volume: VolumeRef, *, is_root: bool) -> None:
    ready = volume.status == "available" or (volume.status == "in-use" and volume.multiattach)
    if not ready:
        raise invalid(
            f"Invalid volume: volume {volume.id} status must be available. Currently in {volume.status}.",
            hint="Detach it first, or choose another.",
        )
    if is_root and not volume.bootable:
        raise invalid(f"Block Device {volume.id} is not bootable.", hint="Set it bootable, or choose another.")


def _check_snapshot(snapshot: SnapshotRef, volume: VolumeRef, device: BlockDevice, *, is_root: bool) -> None:
    if snapshot.status != "available":
        raise invalid(f"Invalid snapshot: snapshot {snapshot.id} must be available. Currently in {snapshot.status}.")
    if 0 < device.volume_size_gib < snapshot.size_gib:
        raise invalid(
            f"Volume size {device.volume_size_gib} GiB is smaller than the snapshot's {snapshot.size_gib} GiB."
        )
    if is_root and not volume.bootable:
        raise invalid(f"Block Device {snapshot.id} is not bootable.", hint="Its volume is not.")


def _check_local(devices: list[BlockDevice], flavor: Flavor) -> None:
    blanks = [d for d in devices if d.source_type == "blank" and d.destination_type == "local"]
    swaps = [d for d in blanks if d.guest_format == "swap"]
    if len(swaps) > 1:
        raise invalid("More than one swap drive requested.")
    if any(d.volume_size_gib * 1024 > flavor.swap_mb for d in swaps):
        raise invalid("Swap drive requested is larger than instance type allows.")
    if sum(d.volume_size_gib for d in blanks if d not in swaps) > flavor.ephemeral_gb:
        raise invalid("Ephemeral disks requested are larger than the instance type allows.")


def _whole(value: int | str | None, name: str) -> int | None:
    if value is None or isinstance(value, int):
        return value
    if value.lstrip("-").isascii() and value.lstrip("-").isdigit():
        return int(value)
    if value in ("", "None"):
        return None
    raise invalid(f"Invalid input for field {name}: {value[:40]!r} is not an integer.")


def truth(value: bool | str | int | None, name: str) -> bool:
    """true and false in the forms the field accepts."""
    if isinstance(value, bool):
        return value
    lowered = str(value).lower()
    if lowered in ("1", "t", "true", "on", "y", "yes"):
        return True
    if lowered in ("0", "f", "false", "off", "n", "no", "", "none"):
        return False
    raise invalid(f"Invalid input for field {name}: {str(value)[:40]!r} is not a boolean.")
