"""Make an image of a server that boots from a volume: snapshots of all its volumes, taken while its guest stands still,
and an image without bytes that says which snapshot was which disk. A server made from it gets volumes made from them.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
from sqlalchemy import Connection

from kilonova.base.faults import unavailable
from kilonova.block_storage.contract import NewSnapshot, SnapshotRef
from kilonova.compute.contract import BlockDevice
from kilonova.compute.core import Compute, on_host
from kilonova.compute.schema import journal
from kilonova.compute.server import states, store
from kilonova.db.database import says
from kilonova.saga.journal import OperationRow
from kilonova.saga.operation import Operation, Step

SNAPSHOT_SECONDS = 3600.0  # where blocks are not shared every byte that was written is copied
PATIENCE_SECONDS = 60.0


class Volumes(msgspec.Struct):
    """Of a server on volumes: whether its guest runs, and must be held still."""

    runs: bool


@says("servers: task_state = image_snapshot; operation createImage recorded")
def begin(connection: Connection, row: OperationRow, admin: bool) -> None:
    """The server is busy with it; whether its guest runs is looked up here."""
    server = store.take(connection, row.resource_id, "createImage", row, admin=admin)
    row.args |= {"host": server.host, "volumes": {"runs": server.vm_state == states.ACTIVE}}
    journal.insert(connection, row)


async def snapshots_instead_of_bytes(
    op: Operation[Compute], server_id: str, image_id: str, host: str, of: Volumes
) -> None:
    """Read down: from a guest on volumes to an image that another can be made from."""
    there = on_host(host)
    if of.runs:
        await op.step(
            "host holds the guest still",
            there.hold_still,
            server_id,
            undo=there.let_go_on,
            patience_seconds=PATIENCE_SECONDS,
        )
    made = await op.step("block storage takes snapshots", take_snapshots, server_id, image_id, undo=drop_snapshots)
    if of.runs:
        await op.step("host lets the guest go on", there.let_go_on, server_id, patience_seconds=PATIENCE_SECONDS)
    await op.step("the image says which snapshot is which disk", describe_image, server_id, image_id, made)


async def take_snapshots(step: Step[Compute], server_id: str, image_id: str) -> dict[str, str]:
    """Volume id → snapshot id, of every volume of the server, when all are available."""
    compute, token = step.services, step.secrets().get("token", "")
    image = await compute.peers.images.show(token, image_id)
    made = {}
    for device in await compute.db.read(store.devices_of, server_id):
        if is_volume(device):
            wanted = NewSnapshot(device.volume_id, f"snapshot for {image.name}"[:255], image_id)
            key = f"{step.key}/{device.volume_id}"
            made[device.volume_id] = await compute.peers.volumes.create_snapshot(token, key, wanted)
    for snapshot in made.values():
        await _available(compute, token, snapshot)
    return {volume_id: snapshot.id for volume_id, snapshot in made.items()}


async def _available(compute: Compute, token: str, snapshot: SnapshotRef) -> None:
    clock = compute.world.clock
    until, pause = clock.monotonic() + SNAPSHOT_SECONDS, 0.1
    while (seen := await compute.peers.volumes.show_snapshot(token, snapshot.id)).status != "available":
        if seen.status != "creating" or clock.monotonic() > until:
            raise unavailable(
                f"Snapshot {seen.id} of volume {seen.volume_id} was not made: it is {seen.status}.",
                hint="`openstack volume message list` says why.",
            )
        await clock.sleep(pause)
        pause = min(2 * pause, 2.0)


async def drop_snapshots(step: Step[Compute], _server_id: str, image_id: str) -> None:
    """Undo: what was made for the image is deleted, also what nobody heard of."""
    volumes, token = step.services.peers.volumes, step.secrets().get("token", "")
    for snapshot in await volumes.snapshots_marked(token, image_id):
        await volumes.delete_snapshot(token, snapshot.id)


async def describe_image(step: Step[Compute], server_id: str, image_id: str, made: dict[str, str]) -> None:
    """The image has its block device mapping, and is active without bytes."""
    compute, token = step.services, step.secrets().get("token", "")
    server, mapping = await compute.db.read(_server_and_devices, server_id)
    told = [entry_of(device, made) for device in mapping if not is_volume(device) or device.volume_id in made]
    properties = {"block_device_mapping": json.dumps(told), "bdm_v2": "True"}
    await compute.peers.images.describe(token, image_id, properties | {"root_device_name": server.root_device_name})
    await compute.peers.images.activate_empty(token, image_id)


def _server_and_devices(connection: Connection, server_id: str) -> tuple[store.Server, list[BlockDevice]]:
    return store.get(connection, server_id), store.devices_of(connection, server_id)


def is_volume(device: BlockDevice) -> bool:
    """Whether the server has a volume by it, now."""
    return device.destination_type == "volume" and bool(device.volume_id) and not device.under_way


def entry_of(device: BlockDevice, made: dict[str, str]) -> dict[str, Any]:
    """A device in the words in which images carry a mapping."""
    snapshot_id = made.get(device.volume_id, "")
    return {
        "source_type": "snapshot" if snapshot_id else device.source_type,
        "destination_type": device.destination_type,
        "snapshot_id": snapshot_id or None,
        "volume_id": None,
        "image_id": None,
        "no_device": None,
        "boot_index": device.boot_index,
        "device_name": device.device_name or None,
        "device_type": device.device_type,
        "disk_bus": device.disk_bus,
        "volume_size": device.volume_size_gib or None,
        "volume_type": device.volume_type or None,
        "delete_on_termination": device.delete_on_termination,
        "guest_format": device.guest_format or None,
        "tag": device.tag or None,
    }
