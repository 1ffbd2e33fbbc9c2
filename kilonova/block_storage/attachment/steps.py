"""The steps of attaching, as units: each moves attachment and volume together, or refuses and says why.

reserved → attaching (a host connects) → attached (the guest has it); every step may be repeated.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from kilonova.base.faults import invalid
from kilonova.block_storage.attachment import connection_store, store
from kilonova.block_storage.attachment.store import Attachment
from kilonova.block_storage.schema import idempotency
from kilonova.block_storage.volume import store as volume_store
from kilonova.db.idempotency import earlier, remember


def reserve(connection: Connection, one: Attachment, key: str, user_id: str) -> Attachment:
    """The volume is the instance's from now on. INVALID when somebody else has it."""
    if known := earlier(connection, idempotency, key, user_id):
        return store.get(connection, known)
    volume = volume_store.get(connection, one.volume_id)
    free = ("available", "in-use", "downloading") if volume.multiattach else ("available", "downloading")
    moved = volume_store.move(connection, volume.id, free, {"status": "reserved", "updated_at": one.created_at})
    again = one.instance_id and any(held.instance_id == one.instance_id for held in volume.attachments)
    if not moved and not again:
        raise invalid(
            f"Invalid volume: Volume {volume.id} status must be {' or '.join(free)} to reserve, but the current "
            f"status is {volume.status}.",
            hint="Detach it from the server that has it first.",
        )
    store.insert(connection, one)
    remember(connection, idempotency, key, user_id, one.id, one.created_at)
    return one


def connecting(connection: Connection, attachment_id: str, connector: dict[str, Any], now: datetime) -> Attachment:
    """A host is about to connect. Noted before it does, so that a detach knows what to disconnect."""
    one = store.get(connection, attachment_id)
    host = str(connector.get("host", ""))
    if one.host and one.host != host:
        raise invalid(
            f"Invalid volume: Duplicate connectors detected on volume {one.volume_id}: attachment {one.id} is "
            "connected elsewhere.",
            hint="Delete the attachment and make a new one.",
        )
    values = {"connector": connector, "host": host, "mountpoint": str(connector.get("mountpoint") or "")[:255]}
    if connector.get("mode") in ("ro", "rw"):
        values["mode"] = connector["mode"]
    if one.status == "reserved":
        values["status"] = "attaching"
    if not values["mountpoint"]:
        values["mountpoint"] = one.mountpoint
    store.change(connection, one.id, values)
    volume_store.follow_attachments(connection, one.volume_id, now)
    return store.get(connection, one.id)


def connected(connection: Connection, attachment_id: str, data: dict[str, Any]) -> Attachment:
    """The backend gave connection data. NOT_FOUND when the attachment was deleted meanwhile."""
    store.change(connection, attachment_id, {"connection": data})
    return store.get(connection, attachment_id)


def complete(connection: Connection, attachment_id: str, now: datetime) -> Attachment:
    """The guest has it: `in-use`. Completed already is fine."""
    one = store.get(connection, attachment_id)
    if one.status == "reserved":
        raise invalid(f"Attachment {one.id} has no connector yet.", hint="Update it with the host's connector first.")
    if one.status != "attached":
        store.change(connection, one.id, {"status": "attached", "attached_at": now})
        volume_store.follow_attachments(connection, one.volume_id, now)
    return store.get(connection, one.id)


def remove(connection: Connection, attachment_id: str, now: datetime) -> list[Attachment]:
    """The attachment is gone; answers those that the volume still has."""
    one = store.get(connection, attachment_id)
    store.delete(connection, one.id)
    connection_store.unwant(connection, one.volume_id, one.host)
    volume_store.follow_attachments(connection, one.volume_id, now)
    return store.of_volumes(connection, [one.volume_id]).get(one.volume_id, [])


def others_on_host(connection: Connection, one: Attachment) -> bool:
    """Whether the same host has the same volume by another attachment: then it stays connected."""
    held = store.of_volumes(connection, [one.volume_id]).get(one.volume_id, [])
    return any(other.id != one.id and other.host == one.host for other in held)
