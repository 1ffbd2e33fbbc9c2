"""Block storage's contract: backends, the volume agent's verbs, and what compute asks over REST."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from kilonova.bus import rpc

EXCHANGE = "cinder"
SCHEDULER_TOPIC = "cinder-scheduler"
VOLUME_TOPIC = "cinder-volume"


class VolumeSpec(msgspec.Struct, frozen=True):
    """A volume as a backend must make it."""

    id: str
    size_gib: int
    image_id: str = ""  # fill from this image
    snapshot_id: str = ""  # or from this snapshot
    source_volume_id: str = ""  # or from this volume
    encrypted: bool = False


class SnapshotSpec(msgspec.Struct, frozen=True):
    """A snapshot as a backend must make it: `volume_id` as it is at one moment, of `size_gib`."""

    id: str
    volume_id: str
    size_gib: int
    still: bool = False  # whoever has the volume connected does not write to it meanwhile


class ImageSource(msgspec.Struct, frozen=True):
    """A local file with an image's bytes, already inspected."""

    path: str
    format: str  # raw | qcow2
    virtual_size_bytes: int


class Connector(msgspec.Struct, frozen=True):
    """Who wants to connect."""

    host: str
    ip: str = ""
    initiator: str = ""
    multipath: bool = False
    mountpoint: str = ""


class Connection(msgspec.Struct, frozen=True):
    """How a host reaches a volume; `data` by driver type (`file`: {"path": …, "format": "raw"})."""

    driver_volume_type: str
    data: dict[str, Any]


class Connected(msgspec.Struct, frozen=True):
    """A host that a backend has connected to a volume."""

    volume_id: str
    host: str


class Capabilities(msgspec.Struct, frozen=True):
    """What a backend reports to the scheduler."""

    backend: str
    total_gib: float
    free_gib: float
    vendor_name: str = "Kilonova"
    storage_protocol: str = "file"
    driver_version: str = "1.0"
    thin_provisioning: bool = True
    multiattach: bool = True
    online_extend: bool = True
    online_snapshots: bool = False  # of a volume that is connected
    max_over_subscription_ratio: float = 20.0


class VolumeBackend(Protocol):
    """A place where volumes live. Verbs are idempotent; `ensure_*` called twice leaves the same world as once."""

    async def ensure_volume(self, spec: VolumeSpec, source: ImageSource | None) -> None:
        """Make the volume (thin), empty or filled. Too little room: NO_CAPACITY before a byte is written."""
        ...

    async def ensure_gone(self, volume_id: str) -> None:
        """Remove it; already gone is fine. In use by a connection: CONFLICT."""
        ...

    async def extend(self, volume_id: str, size_gib: int) -> None:
        """Grow to `size_gib`."""
        ...

    async def ensure_snapshot(self, spec: SnapshotSpec) -> None:
        """Make the snapshot; volumes made from it, and it from the volume, share nothing that a delete would take.

        Of a connected volume, not `still`, without `online_snapshots`: CONFLICT. Too little room: NO_CAPACITY."""
        ...

    async def ensure_snapshot_gone(self, snapshot_id: str) -> None:
        """Remove it; already gone is fine."""
        ...

    async def snapshots(self) -> list[str]:
        """Ids of all snapshots that exist here."""
        ...

    async def connect(self, volume_id: str, connector: Connector) -> Connection:
        """Connection data for `connector`."""
        ...

    async def disconnect(self, volume_id: str, connector: Connector) -> None:
        """The connector no longer uses it."""
        ...

    async def connections(self) -> list[Connected]:
        """Who is connected to what, in order."""
        ...

    async def volumes(self) -> list[str]:
        """Ids of all volumes that exist here."""
        ...

    async def capabilities(self) -> Capabilities:
        """Size, room and powers, now."""
        ...


class VolumeHost(Protocol):
    """Journalled verbs of the volume agent (steps over `bus.steps`), on `cinder-volume.HOST@BACKEND`."""

    async def create_volume(self, volume_id: str, spec: VolumeSpec) -> None:
        """Make it; its image is fetched with the token that `VolumeScheduler.step_secrets` gives."""
        ...

    async def delete_volume(self, volume_id: str) -> None: ...

    async def extend_volume(self, volume_id: str, size_gib: int) -> None: ...

    async def create_snapshot(self, snapshot_id: str, spec: SnapshotSpec) -> None: ...

    async def delete_snapshot(self, snapshot_id: str) -> None: ...


class StepSecrets(msgspec.Struct):
    """What is sealed in the operation and handed to the agent for a step that needs it."""

    token: str = ""


class VolumeAgent(Protocol):
    """Plain calls to the volume agent, on `cinder-volume.HOST@BACKEND`."""

    @rpc.call(30)
    async def initialize_connection(self, volume_id: str, connector: Connector) -> Connection: ...

    @rpc.call(30)
    async def terminate_connection(self, volume_id: str, connector: Connector) -> None: ...


class VolumeScheduler(Protocol):
    """Served on `cinder-scheduler`; also runs block storage's operations."""

    @rpc.cast
    async def run_operation(self, operation_id: str) -> None:
        """An operation row waits: lease it and run it."""
        ...

    @rpc.call()
    async def report_capabilities(self, host: str, capabilities: Capabilities) -> None:
        """Every 10 s from each volume agent; also its heartbeat."""
        ...

    @rpc.call()
    async def step_secrets(self, host: str, operation_id: str, epoch: int) -> StepSecrets:
        """The operation's sealed secrets, while it runs, for a host that has one of its steps. Else NOT_FOUND."""
        ...

    @rpc.call()
    async def volumes_seen(self, host: str, volume_ids: list[str]) -> list[str]:
        """All volumes of the backend. Answers those of deleted volumes, which must go: only ones that we made."""
        ...

    @rpc.call()
    async def connections_seen(self, host: str, seen: list[Connected]) -> list[Connected]:
        """All connections of the backend. Answers those that nobody wants: no attachment, and nobody who asked for
        the connection itself. What was connected again since it was seen must stay."""
        ...


class ServerEvents(Protocol):
    """What block storage tells compute."""

    async def volume_extended(self, server_id: str, volume_id: str) -> None:
        """A volume of the server is larger now. A server that is gone needs no word."""
        ...


class Attachment(msgspec.Struct):
    """What compute gets when it attaches a volume."""

    id: str
    volume_id: str
    connection: Connection | None = None
    multiattach: bool = False


class VolumeRef(msgspec.Struct):
    """A volume as compute sees it."""

    id: str
    name: str
    status: str
    size_gib: int
    bootable: bool
    multiattach: bool
    availability_zone: str
    image_metadata: dict[str, str] = {}


class SnapshotRef(msgspec.Struct):
    """A snapshot as compute sees it."""

    id: str
    status: str
    size_gib: int
    volume_id: str


class NewVolume(msgspec.Struct, frozen=True):
    """A volume that compute makes for a server."""

    size_gib: int
    name: str = ""
    image_id: str = ""
    snapshot_id: str = ""
    volume_type: str = ""
    availability_zone: str = ""


class NewSnapshot(msgspec.Struct, frozen=True):
    """A snapshot that compute makes of a server's volume; `mark` finds it again."""

    volume_id: str
    name: str
    mark: str


STILL_HEADER = "X-Volume-Still"  # a service's word that whoever has the volume does not write to it
MARK = "image_id"  # the metadata key of the mark


class Volumes(Protocol):
    """Block storage over REST with a caller's token. Implemented by block_storage/client.py."""

    async def show(self, token: str, volume_id: str) -> VolumeRef: ...

    async def show_snapshot(self, token: str, snapshot_id: str) -> SnapshotRef: ...

    async def create_snapshot(self, token: str, key: str, snapshot: NewSnapshot) -> SnapshotRef:
        """Made (status creating) of a volume whose guest is held still; `key` makes repeats harmless."""
        ...

    async def snapshots_marked(self, token: str, mark: str) -> list[SnapshotRef]:
        """The caller's snapshots that were made with that mark."""
        ...

    async def delete_snapshot(self, token: str, snapshot_id: str) -> None:
        """Deleted; gone is fine."""
        ...

    async def create(self, token: str, key: str, volume: NewVolume) -> VolumeRef:
        """Made (status creating); `key` makes repeats harmless."""
        ...

    async def delete(self, token: str, volume_id: str) -> None:
        """Deleted; gone is fine."""
        ...

    async def delete_unless_needed(self, token: str, volume_id: str) -> bool:
        """As `delete`; a volume that its snapshots or another server need stays as it is: False."""
        ...

    async def reserve(self, token: str, key: str, volume_id: str, server_id: str) -> str:
        """Attachment id; the volume is `reserved` for the server. CONFLICT or INVALID when it is not available."""
        ...

    async def attachments_of(self, token: str, server_id: str) -> list[Attachment]:
        """The server's attachments, without connection data; `token` is a service's."""
        ...

    async def connect(self, token: str, attachment_id: str, connector: Connector, device: str) -> Attachment:
        """The attachment with connection data for the host; repeats are harmless."""
        ...

    async def complete(self, token: str, attachment_id: str) -> None:
        """The guest has it: volume `in-use`."""
        ...

    async def detach(self, token: str, attachment_id: str) -> None:
        """Attachment gone, volume available again; gone is fine."""
        ...
