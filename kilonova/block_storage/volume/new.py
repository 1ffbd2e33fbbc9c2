"""POST /volumes: what may be asked for, checked before anything is written."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from kilonova.base.faults import Fault, Kind, invalid, not_found
from kilonova.base.units import gib_up
from kilonova.block_storage.backend import store as backend_store
from kilonova.block_storage.backend.choose import Wanted
from kilonova.block_storage.contract import VolumeSpec
from kilonova.block_storage.core import BlockStorage
from kilonova.block_storage.names import checked_flag, checked_metadata, checked_size, checked_text
from kilonova.block_storage.snapshot import resource as snapshots
from kilonova.block_storage.volume import create as creation
from kilonova.block_storage.volume import store as volume_store
from kilonova.block_storage.volume import view
from kilonova.block_storage.volume.resource import target, type_seen, visible
from kilonova.block_storage.volume.store import Volume
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.http.schema import since
from kilonova.image.contract import ImageRef
from kilonova.policy.personas import VOLUME_ADMIN_OR_MEMBER
from kilonova.policy.rules import Rule


class NewVolume(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a create request; names as in the API reference."""

    size: Any = None
    name: Any = None
    description: Any = None
    display_name: Any = None
    display_description: Any = None
    availability_zone: str | None = None
    volume_type: str | None = None
    metadata: dict[str, Any] | None = None
    imageRef: str | None = None
    image_id: str | None = None
    snapshot_id: str | None = None
    source_volid: str | None = None
    consistencygroup_id: str | None = None
    multiattach: Any = False
    group_id: Annotated[str | None, since("3.13")] = None
    backup_id: Annotated[str | None, since("3.47")] = None
    # Sent by older clients, and without meaning today.
    user_id: Any = None
    project_id: Any = None
    status: Any = None
    attach_status: Any = None
    source_replica: Any = None


async def create(service: BlockStorage, request: Request[NewVolume]) -> dict[str, Any]:
    body = request.body
    request.enforce()
    volume = Volume(
        id=service.world.ids.uuid(),
        project_id=request.caller.project_id,
        user_id=request.caller.user_id,
        size_gib=0 if body.size is None else checked_size(body.size, "size"),
        created_at=service.world.clock.now(),
        name=checked_text(body.name if body.name is not None else body.display_name, "name"),
        description=checked_text(
            body.description if body.description is not None else body.display_description, "description"
        ),
        metadata=checked_metadata(body.metadata or {}),
        availability_zone=await _zone(service, body.availability_zone),
    )
    _refuse_missing_nouns(body)
    host = await _source(service, request, volume)
    await _kind(service, request, volume)
    volume.quota_gib = volume.size_gib
    return await _record(service, request, volume, host)


async def _record(service: BlockStorage, request: Request[NewVolume], volume: Volume, host: str) -> dict[str, Any]:
    specs = (await type_seen(service, request, volume.volume_type_id)).extra_specs
    spec = VolumeSpec(volume.id, volume.size_gib, image_id=volume.image_id, snapshot_id=volume.snapshot_id,
                      source_volume_id=volume.source_volume_id)  # fmt: skip
    wanted = Wanted(volume.size_gib, volume.availability_zone, specs, host)
    row = service.operation(request, "create", volume.id, creation.args(spec, wanted))
    volume.operation_id = row.id
    asked = creation.NewRow(volume, row, dict(service.settings.quota), request.idempotency_key)
    made = await service.start(row, creation.begin, asked)
    return {"volume": view.basic(request, made)}


async def _zone(service: BlockStorage, name: str | None) -> str:
    """The availability zone that was asked for, or the default one."""
    if not name or name == service.settings.availability_zone:
        return service.settings.availability_zone
    known = {one.availability_zone for one in await service.db.read(backend_store.listed)}
    if name not in known:
        raise invalid(f"Availability zone '{name[:60]}' is invalid.", hint="See `openstack availability zone list`.")
    return name


def _refuse_missing_nouns(body: NewVolume) -> None:
    """Sources that this cloud does not have do not exist: say so, as for any id that is unknown."""
    for noun, given in (
        ("Backup", body.backup_id),
        ("Group", body.group_id),
        ("ConsistencyGroup", body.consistencygroup_id),
    ):
        if given:
            raise not_found(noun, given[:60])


async def _source(service: BlockStorage, request: Request[NewVolume], volume: Volume) -> str:
    """Note what the volume is made from; answers the backend that must have it, "" for any."""
    body, host = request.body, ""
    if sum(map(bool, (body.source_volid, body.snapshot_id, body.imageRef or body.image_id))) > 1:
        raise invalid("May specify only one of snapshot, imageRef or source volume.")
    if body.snapshot_id:
        host = await _use_snapshot(service, request, volume)
    if body.source_volid:
        source = await visible(service, request, body.source_volid)
        request.enforce(target(source), "volume:get")
        if source.status not in ("available", "in-use"):
            raise invalid(f"Invalid volume: Volume {source.id} must be available or in-use, it is {source.status}.")
        volume.size_gib = volume.size_gib or source.size_gib
        if volume.size_gib < source.size_gib:
            raise invalid(
                f"Invalid input received: Volume size '{volume.size_gib}'GB cannot be smaller than original volume "
                f"size {source.size_gib}GB. They must be >= original volume size."
            )
        volume.source_volume_id, volume.bootable, host = source.id, source.bootable, source.host
        volume.image_metadata, volume.volume_type_id = dict(source.image_metadata), source.volume_type_id
    if not volume.size_gib:
        raise invalid("Invalid input received: Volume size 'None' must be an integer and greater than 0.")
    if image_id := body.imageRef or body.image_id:
        request.enforce(None, "volume:create_from_image")
        _use_image(volume, await _image(service, request, image_id))
    return host


async def _use_snapshot(service: BlockStorage, request: Request[NewVolume], volume: Volume) -> str:
    """Note the snapshot that the volume is made from; answers its backend."""
    snapshot = await snapshots.seen(service, request, request.body.snapshot_id or "")
    request.enforce(snapshots.target(snapshot), "volume:get_snapshot")
    if snapshot.status != "available":
        raise invalid(
            f"Invalid snapshot: Originating snapshot status must be one of 'available' values, it is {snapshot.status}."
        )
    volume.size_gib = volume.size_gib or snapshot.size_gib
    if volume.size_gib < snapshot.size_gib:
        raise invalid(
            f"Invalid input received: Volume size '{volume.size_gib}'GB cannot be smaller than the snapshot size "
            f"{snapshot.size_gib}GB. They must be >= original snapshot size."
        )
    source = await service.db.read(volume_store.get, snapshot.volume_id)
    volume.snapshot_id, volume.volume_type_id = snapshot.id, snapshot.volume_type_id
    volume.bootable, volume.image_metadata = source.bootable, dict(source.image_metadata)
    return snapshot.host


async def _image(service: BlockStorage, request: Request[Any], image_id: str) -> ImageRef:
    try:
        return await service.images.show(request.caller.token, image_id)
    except Fault as fault:
        if fault.kind is Kind.NOT_FOUND:
            raise invalid(f"Invalid image identifier or unable to access requested image {image_id[:60]}.") from None
        raise


def _use_image(volume: Volume, image: ImageRef) -> None:
    if image.status != "active":
        raise invalid(f"Image {image.id} is not active.")
    needed = gib_up(max(image.size, image.virtual_size or 0))
    if needed > volume.size_gib:
        raise invalid(
            f"Invalid input received: Size of specified image {needed}GB is larger than volume size "
            f"{volume.size_gib}GB."
        )
    if image.min_disk_gb > volume.size_gib:
        raise invalid(
            f"Invalid input received: Volume size {volume.size_gib}GB cannot be smaller than the image minDisk size "
            f"{image.min_disk_gb}GB."
        )
    volume.image_id, volume.bootable = image.id, True
    about = {
        "image_id": image.id,
        "image_name": image.name,
        "checksum": image.checksum,
        "container_format": image.container_format,
        "disk_format": image.disk_format,
        "min_disk": str(image.min_disk_gb),
        "min_ram": str(image.min_ram_mb),
        "size": str(image.size),
    }
    volume.image_metadata = {str(key)[:255]: str(value) for key, value in (image.properties | about).items()}


async def _kind(service: BlockStorage, request: Request[NewVolume], volume: Volume) -> None:
    """The volume's type: the one asked for, the source's, or the default."""
    name = request.body.volume_type or volume.volume_type_id or service.settings.default_volume_type
    found = await type_seen(service, request, name)
    volume.volume_type_id, volume.volume_type = found.id, found.name
    volume.multiattach = found.extra_specs.get("multiattach", "").removeprefix("<is>").strip().lower() == "true"
    if checked_flag(request.body.multiattach, "multiattach") and not volume.multiattach:
        raise invalid(
            "multiattach parameter has been removed. The default behavior is to use multiattach enabled volume types."
        )
    if volume.multiattach:
        request.enforce(None, "volume:multiattach")


RULES = (
    Rule("volume:create", VOLUME_ADMIN_OR_MEMBER, "Create a volume.", (("POST", "/volumes"),)),
    Rule("volume:create_from_image", VOLUME_ADMIN_OR_MEMBER, "Create a volume from an image.", (("POST", "/volumes"),)),
    Rule("volume:multiattach", VOLUME_ADMIN_OR_MEMBER, "Create a multi-attach volume.", (("POST", "/volumes"),)),
)
ROUTES = (
    Route(
        method="POST", path="/volumes", handler=create, policy="volume:create", body=NewVolume, envelope="volume",
        success=202,
    ),
)  # fmt: skip
