"""Steps that hold and give back what a server needs elsewhere: the claim in placement, volumes reserved for it."""

from __future__ import annotations

from sqlalchemy import Connection

from kilonova.base.faults import Fault, Kind
from kilonova.compute.contract import BlockDevice, Destination, RequestSpec
from kilonova.compute.core import Compute
from kilonova.compute.server import store
from kilonova.db.database import redone
from kilonova.placement.contract import ClaimRequest
from kilonova.saga.operation import Step
from kilonova.trace import spans

SCHEDULER_TRIES = 3


@redone  # a claim is found by the server's id
async def select_destinations(step: Step[Compute], spec: RequestSpec) -> list[Destination]:
    """The host claimed in placement, then alternates. A scheduler that died with the question has others beside it.

    Without an answer nobody knows what was claimed: nothing is. A scheduler claims nothing once its time is over.
    """
    for tries_left in reversed(range(SCHEDULER_TRIES)):
        try:
            return await step.services.scheduler.select_destinations(spec)
        except Fault as fault:
            if fault.kind is not Kind.UNAVAILABLE:
                raise
            await step.services.peers.placement.release(spec.server_id)
            if not tries_left:
                raise
            spans.note("no scheduler answered: asked again")
    raise AssertionError


async def claim_alternate(step: Step[Compute], spec: RequestSpec, destination: Destination) -> bool:
    """Whether placement had room for the server on the alternate; it then holds that instead of what it held."""
    placement = step.services.peers.placement
    try:
        if not destination.allocations:
            return await placement.claim(
                spec.server_id, destination.provider_id, destination.resources, spec.project_id, spec.user_id
            )
        claim = ClaimRequest(spec.server_id, spec.project_id, spec.user_id, destination.allocations)
        return (await placement.claim_many([claim]))[0].stands
    except Fault:
        await placement.release(spec.server_id)
        raise


async def release_claims(step: Step[Compute], consumers: list[str]) -> None:
    """Placement holds nothing for these."""
    for consumer in consumers:
        await step.services.peers.placement.release(consumer)


async def give_back_claim(step: Step[Compute], spec: RequestSpec) -> None:
    """Undo of a claim."""
    await step.services.peers.placement.release(spec.server_id)


async def reserve_volumes(step: Step[Compute], server_id: str) -> None:
    """Every volume of the mapping is reserved for the server: at the API already, or again for another host."""
    compute = step.services
    mapping = await compute.db.read(store.devices_of, server_id)
    token = step.secrets().get("token", "")
    for position, device in enumerate(mapping):
        if device.volume_id and not device.attachment_id:
            key = f"{step.key}/{position}"
            device.attachment_id = await compute.peers.volumes.reserve(token, key, device.volume_id, server_id)
            await compute.db.write(store.set_devices, server_id, mapping)


async def release_volumes(step: Step[Compute], server_id: str) -> None:
    """No volume is reserved for or attached to the server; those marked so are deleted."""
    await _release(step, server_id, delete=True)


async def unreserve_volumes(step: Step[Compute], server_id: str) -> None:
    """Undo of a reservation: the volumes are as they were before the server."""
    await _release(step, server_id, delete=False)


async def _release(step: Step[Compute], server_id: str, *, delete: bool) -> None:
    compute = step.services
    mapping = await compute.db.read(store.devices_of, server_id)
    held = [device for device in mapping if device.attachment_id]
    lost = any(device.under_way == "attaching" and not device.attachment_id for device in mapping)
    if not held and not lost:
        return
    token = await compute.peers.own_token()
    if lost:  # an attach that was cut off may have reserved its volume without telling anybody
        known = {device.attachment_id for device in held}
        for one in await compute.peers.volumes.attachments_of(token, server_id):
            if one.id not in known:
                await compute.peers.volumes.detach(token, one.id)
    for device in held:
        try:
            await compute.peers.volumes.detach(token, device.attachment_id)
            if delete and device.delete_on_termination:
                await compute.peers.volumes.delete_unless_needed(token, device.volume_id)
        except Fault as fault:
            if fault.kind is not Kind.NOT_FOUND:
                raise
    await compute.db.write(_no_attachments, server_id)


def _no_attachments(connection: Connection, server_id: str) -> None:
    store.set_devices(connection, server_id, [unconnected(d) for d in store.devices_of(connection, server_id)])


def unconnected(device: BlockDevice) -> BlockDevice:
    """The device as it was before a host connected it. A volume that was made for it is forgotten with the host."""
    device.attachment_id, device.connection = "", None
    if device.source_type != "volume":
        device.volume_id = ""
    return device


async def let_go(step: Step[Compute], spec: RequestSpec) -> None:
    """Undo of the whole beginning: placement holds nothing for the server, and no volume is reserved for it."""
    await step.services.peers.placement.release(spec.server_id)
    await unreserve_volumes(step, spec.server_id)


async def unplace(step: Step[Compute], server_id: str) -> None:
    """Undo of choosing a host."""
    await step.services.db.write(store.unplace, server_id)
