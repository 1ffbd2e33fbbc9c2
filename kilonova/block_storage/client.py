"""Block storage over REST, as compute uses it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import msgspec

from kilonova.base.faults import Fault, Kind
from kilonova.block_storage.contract import (
    MARK,
    STILL_HEADER,
    Attachment,
    Connection,
    Connector,
    NewSnapshot,
    NewVolume,
    SnapshotRef,
    VolumeRef,
)
from kilonova.http.client import Client

_VERSION = {"OpenStack-API-Version": "volume 3.71"}
# What the answer adds to the connection data of the backend.
_ADDED = ("driver_volume_type", "attachment_id", "volume_id", "qos_specs", "discard", "cacheable")

AT_REST = ("available", "in-use", "error")  # a volume in one of these that may not be deleted is needed by something


class VolumeClient:
    """Implements `block_storage.contract.Volumes`. The client should send a service token: detaching needs it."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def show(self, token: str, volume_id: str) -> VolumeRef:
        return _ref(await self._ask("GET", f"/v3/volumes/{volume_id}", token))

    async def show_snapshot(self, token: str, snapshot_id: str) -> SnapshotRef:
        return _snapshot((await self._ask("GET", f"/v3/snapshots/{snapshot_id}", token))["snapshot"])

    async def create_snapshot(self, token: str, key: str, snapshot: NewSnapshot) -> SnapshotRef:
        wanted = {"volume_id": snapshot.volume_id, "name": snapshot.name, "metadata": {MARK: snapshot.mark}}
        headers = _VERSION | {STILL_HEADER: "true"}
        made = await self._client.request(
            "POST", "/v3/snapshots", token=token, json={"snapshot": wanted}, headers=headers, idempotency_key=key
        )
        return _snapshot(made.json()["snapshot"])

    async def snapshots_marked(self, token: str, mark: str) -> list[SnapshotRef]:
        query = urlencode({"metadata": str({MARK: mark})})
        found = await self._ask("GET", f"/v3/snapshots/detail?{query}", token)
        return [_snapshot(one) for one in found["snapshots"] if one["metadata"].get(MARK) == mark]

    async def delete_snapshot(self, token: str, snapshot_id: str) -> None:
        try:
            await self._ask("DELETE", f"/v3/snapshots/{snapshot_id}", token)
        except Fault as fault:
            if fault.kind is not Kind.NOT_FOUND:
                raise

    async def create(self, token: str, key: str, volume: NewVolume) -> VolumeRef:
        wanted = {
            "size": volume.size_gib or None,
            "name": volume.name or None,
            "imageRef": volume.image_id or None,
            "snapshot_id": volume.snapshot_id or None,
            "volume_type": volume.volume_type or None,
            "availability_zone": volume.availability_zone or None,
        }
        body = {"volume": {name: value for name, value in wanted.items() if value is not None}}
        return _ref(await self._ask("POST", "/v3/volumes", token, body, key))

    async def delete(self, token: str, volume_id: str) -> None:
        try:
            await self._ask("DELETE", f"/v3/volumes/{volume_id}", token)
        except Fault as fault:
            if fault.kind is not Kind.NOT_FOUND:
                raise

    async def delete_unless_needed(self, token: str, volume_id: str) -> bool:
        try:
            await self.delete(token, volume_id)
        except Fault as fault:
            refused = fault.kind in (Kind.INVALID, Kind.CONFLICT)
            if not refused or (await self.show(token, volume_id)).status not in AT_REST:
                raise
            return False
        return True

    async def reserve(self, token: str, key: str, volume_id: str, server_id: str) -> str:
        body = {"attachment": {"volume_uuid": volume_id, "instance_uuid": server_id}}
        return str((await self._ask("POST", "/v3/attachments", token, body, key))["attachment"]["id"])

    async def attachments_of(self, token: str, server_id: str) -> list[Attachment]:
        found = await self._ask("GET", f"/v3/attachments?all_tenants=1&instance_id={server_id}", token)
        return [Attachment(one["id"], one["volume_id"]) for one in found["attachments"]]

    async def connect(self, token: str, attachment_id: str, connector: Connector, device: str) -> Attachment:
        wire = msgspec.to_builtins(connector) | ({"mountpoint": device} if device else {})
        body = {"attachment": {"connector": wire}}
        found = (await self._ask("PUT", f"/v3/attachments/{attachment_id}", token, body))["attachment"]
        data = dict(found["connection_info"])
        connection = Connection(data["driver_volume_type"], {k: v for k, v in data.items() if k not in _ADDED})
        volume = await self.show(token, found["volume_id"])
        return Attachment(found["id"], found["volume_id"], connection, volume.multiattach)

    async def complete(self, token: str, attachment_id: str) -> None:
        await self._ask("POST", f"/v3/attachments/{attachment_id}/action", token, {"os-complete": {}})

    async def detach(self, token: str, attachment_id: str) -> None:
        try:
            await self._ask("DELETE", f"/v3/attachments/{attachment_id}", token)
        except Fault as fault:
            if fault.kind is not Kind.NOT_FOUND:
                raise

    async def _ask(self, method: str, path: str, token: str, body: Any = None, key: str = "") -> Any:
        reply = await self._client.request(method, path, token=token, json=body, headers=_VERSION, idempotency_key=key)
        return reply.json()


def _snapshot(found: Any) -> SnapshotRef:
    return SnapshotRef(found["id"], found["status"], found["size"], found["volume_id"])


def _ref(answer: Any) -> VolumeRef:
    volume = answer["volume"]
    return VolumeRef(
        id=volume["id"],
        name=volume["name"] or "",
        status=volume["status"],
        size_gib=volume["size"],
        bootable=volume["bootable"] == "true",
        multiattach=volume["multiattach"],
        availability_zone=volume["availability_zone"] or "",
        image_metadata=volume.get("volume_image_metadata", {}),
    )
