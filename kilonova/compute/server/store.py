"""Servers in compute's database: the record, its block devices, tags and faults, and the one way its state moves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import Fault, conflict, not_found
from kilonova.compute.contract import BlockDevice, Flavor, RequestSpec
from kilonova.compute.schema import metadata
from kilonova.compute.server import states
from kilonova.compute.server.under_way_store import unfinished_operations
from kilonova.db.database import lone, says
from kilonova.db.statements import ONE_MORE, Statement, delete, insert_all, update
from kilonova.db.statements import insert as insert_row
from kilonova.db.types import Id, Name, Text, Timestamp
from kilonova.network.contract import PortBinding, PortRequest
from kilonova.saga.journal import OperationRow, Superseded


class Server(msgspec.Struct):
    """A server's record. `ports` is compute's own copy of what network said, so that reads never ask network."""

    number: int
    id: str
    name: str
    description: str | None
    hostname: str
    project_id: str
    user_id: str
    vm_state: str
    task_state: str
    power_state: str
    operation_id: str
    host: str
    node: str
    availability_zone: str  # of its host
    pinned_zone: str  # asked for by the user; "" when none was
    flavor: dict[str, Any]
    vcpus: int
    memory_mb: int
    image_id: str
    image_properties: dict[str, str]
    key_name: str
    public_key: str
    user_data: str
    config_drive: bool
    metadata: dict[str, str]
    personality: list[tuple[str, str]]
    port_requests: list[dict[str, Any]]
    security_groups: list[str]
    ports: list[dict[str, Any]]
    access_ip_v4: str
    access_ip_v6: str
    locked: bool
    locked_by: str
    locked_reason: str | None
    progress: int
    disk_config: str
    root_device_name: str
    reservation_id: str
    launch_index: int
    trusted_certs: list[str] | None
    server_group_id: str
    created_at: datetime
    updated_at: datetime
    launched_at: datetime | None = None
    terminated_at: datetime | None = None
    deleted_at: datetime | None = None
    ports_revision: int = 0  # counts what was written to `ports`
    soft_deleted_at: datetime | None = None
    rescue: dict[str, Any] | None = None  # with which image, while it is rescued
    changes: int = 0  # counts every write to the record

    def now(self) -> states.Now:
        """What decides what may be done to it."""
        return states.Now(self.id, self.vm_state, self.task_state, self.launched_at is not None, self.locked)

    def target(self) -> dict[str, Any]:
        """What policy rules look at."""
        return {"project_id": self.project_id, "user_id": self.user_id}

    @property
    def flavor_struct(self) -> Flavor:
        """The flavor as it was when the server was made."""
        return msgspec.convert(self.flavor, Flavor)


servers = sa.Table(
    "server",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("id", Id(), nullable=False, unique=True),
    sa.Column("name", Name(), nullable=False),
    sa.Column("description", Name()),
    sa.Column("hostname", Name(), nullable=False),
    sa.Column("project_id", Id(), nullable=False),
    sa.Column("user_id", Id(), nullable=False),
    sa.Column("vm_state", sa.String(24), nullable=False),
    sa.Column("task_state", sa.String(40), nullable=False),
    sa.Column("power_state", sa.String(16), nullable=False),
    sa.Column("operation_id", Id(), nullable=False),
    sa.Column("host", Name(), nullable=False, index=True),
    sa.Column("node", Name(), nullable=False),
    sa.Column("availability_zone", Name(), nullable=False),
    sa.Column("pinned_zone", Name(), nullable=False),
    sa.Column("flavor", sa.JSON, nullable=False),
    sa.Column("vcpus", sa.Integer, nullable=False),
    sa.Column("memory_mb", sa.Integer, nullable=False),
    sa.Column("image_id", Id(), nullable=False),
    sa.Column("image_properties", sa.JSON, nullable=False),
    sa.Column("key_name", Name(), nullable=False),
    sa.Column("public_key", Text(), nullable=False),
    sa.Column("user_data", Text(), nullable=False),
    sa.Column("config_drive", sa.Boolean, nullable=False),
    sa.Column("metadata", sa.JSON, nullable=False),
    sa.Column("personality", sa.JSON, nullable=False),
    sa.Column("port_requests", sa.JSON, nullable=False),
    sa.Column("security_groups", sa.JSON, nullable=False),
    sa.Column("ports", sa.JSON, nullable=False),
    sa.Column("access_ip_v4", sa.String(64), nullable=False),
    sa.Column("access_ip_v6", sa.String(64), nullable=False),
    sa.Column("locked", sa.Boolean, nullable=False),
    sa.Column("locked_by", sa.String(16), nullable=False),
    sa.Column("locked_reason", Name()),
    sa.Column("progress", sa.Integer, nullable=False),
    sa.Column("disk_config", sa.String(16), nullable=False),
    sa.Column("root_device_name", Name(), nullable=False),
    sa.Column("reservation_id", Id(), nullable=False, index=True),
    sa.Column("launch_index", sa.Integer, nullable=False),
    sa.Column("trusted_certs", sa.JSON(none_as_null=True)),
    sa.Column("server_group_id", Id(), nullable=False),
    sa.Column("created_at", Timestamp(), nullable=False, index=True),
    sa.Column("updated_at", Timestamp(), nullable=False),
    sa.Column("launched_at", Timestamp()),
    sa.Column("terminated_at", Timestamp()),
    sa.Column("deleted_at", Timestamp(), index=True),
    sa.Column("ports_revision", sa.Integer, nullable=False),
    sa.Column("soft_deleted_at", Timestamp()),
    sa.Column("rescue", sa.JSON(none_as_null=True)),
    sa.Column("changes", sa.Integer, nullable=False, server_default="0", onupdate=sa.text("changes + 1")),
    sa.Index("ix_server_task_state", "task_state", "host"),
    sa.Index("ix_server_project_created", "project_id", "created_at", "id"),  # in lists' order
    sa.Index("ix_server_usage", "project_id", "deleted_at", "vm_state", "vcpus", "memory_mb", "user_id"),  # by `usage`
)
devices = sa.Table(
    "block_device",
    metadata,
    sa.Column("id", Id(), primary_key=True),
    sa.Column("server_id", Id(), nullable=False, index=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("volume_id", Id(), nullable=False, index=True),
    sa.Column("delete_on_termination", sa.Boolean, nullable=False),
    sa.Column("mapping", sa.JSON, nullable=False),
)
tags = sa.Table(
    "server_tag",
    metadata,
    sa.Column("server_id", Id(), primary_key=True),
    sa.Column("tag", sa.String(60), primary_key=True),
)
faults = sa.Table(
    "server_fault",
    metadata,
    sa.Column("server_id", Id(), primary_key=True),
    sa.Column("code", sa.Integer, nullable=False),
    sa.Column("message", Text(), nullable=False),
    sa.Column("details", Text(), nullable=False),
    sa.Column("created_at", Timestamp(), nullable=False),
)
specs = sa.Table(
    "request_spec",
    metadata,
    sa.Column("server_id", Id(), primary_key=True),
    sa.Column("spec", sa.JSON, nullable=False),
)


class ServerFault(msgspec.Struct, frozen=True):
    """Why a server is in error; `details` are for operators."""

    code: int
    message: str
    details: str
    created_at: datetime


# ── reading


def no_such(server_id: str) -> Fault:
    """There is no such server, for this caller."""
    return not_found("Instance", server_id, code="InstanceNotFound")


def as_server(row: Sequence[Any]) -> Server:
    """The record of a row of `servers`, columns in order."""
    return Server(*row)


_BY_ID = sa.select(servers).where(servers.c.id == sa.bindparam("id"))
_NOT_DELETED = _BY_ID.where(servers.c.deleted_at.is_(None))
_ONE = Statement(_NOT_DELETED), Statement(_NOT_DELETED.with_for_update())
_WITH_DELETED = Statement(_BY_ID), Statement(_BY_ID.with_for_update())
_OF_SERVER: sa.BindParameter[str] = sa.bindparam("server")
_DEVICES = Statement(sa.select(devices.c.mapping).where(devices.c.server_id == _OF_SERVER).order_by(devices.c.position))
_TAGS = Statement(sa.select(tags.c.tag).where(tags.c.server_id == _OF_SERVER).order_by(tags.c.tag))
_SPEC = Statement(sa.select(specs.c.spec).where(specs.c.server_id == _OF_SERVER))
_HOST = Statement(sa.select(servers.c.host).where(servers.c.id == _OF_SERVER))
_WHEREABOUTS = Statement(
    sa.select(servers.c.id, servers.c.host, servers.c.task_state).where(
        servers.c.id.in_(sa.bindparam("ids", expanding=True)), servers.c.deleted_at.is_(None)
    )
)
_DELETED_AT = Statement(sa.select(servers.c.deleted_at).where(servers.c.id == _OF_SERVER))


def find(connection: Connection, server_id: str, *, deleted: bool = False, lock: bool = False) -> Server | None:
    """The server, or None. Deleted ones only when `deleted`."""
    row = (_WITH_DELETED if deleted else _ONE)[int(lock)].first(connection, id=server_id)
    return None if row is None else as_server(row)


@lone
@says("servers: read one")
def get(connection: Connection, server_id: str, *, deleted: bool = False, lock: bool = False) -> Server:
    """The server; NOT_FOUND when it is not there."""
    server = find(connection, server_id, deleted=deleted, lock=lock)
    if server is None:
        raise no_such(server_id)
    return server


def devices_of(connection: Connection, server_id: str) -> list[BlockDevice]:
    """The server's block devices, in order."""
    return [msgspec.convert(mapping, BlockDevice) for mapping in _DEVICES.scalars(connection, server=server_id)]


def tags_of(connection: Connection, server_id: str) -> list[str]:
    """The server's tags, sorted."""
    return _TAGS.scalars(connection, server=server_id)


def spec_of(connection: Connection, server_id: str) -> RequestSpec:
    """What the server needs of a host."""
    found = _SPEC.scalar(connection, server=server_id)
    if found is None:
        raise not_found("Request spec of instance", server_id)
    return msgspec.convert(found, RequestSpec)


_COUNTED = sa.select(
    sa.func.count(),
    sa.func.coalesce(sa.func.sum(servers.c.vcpus), 0),
    sa.func.coalesce(sa.func.sum(servers.c.memory_mb), 0),
).where(
    servers.c.project_id == sa.bindparam("project"),
    servers.c.deleted_at.is_(None),
    servers.c.vm_state != states.SOFT_DELETED,
)
_USED, _USED_BY_USER = Statement(_COUNTED), Statement(_COUNTED.where(servers.c.user_id == sa.bindparam("user")))


def usage(connection: Connection, project_id: str, user_id: str = "") -> tuple[int, int, int]:
    """(servers, cores, MB of memory) that the project has, by counting its rows; soft-deleted ones do not count."""
    mine = {"project": project_id} | ({"user": user_id} if user_id else {})
    [(count, vcpus, memory_mb)] = (_USED_BY_USER if user_id else _USED).all(connection, **mine)
    return int(count), int(vcpus), int(memory_mb)


# ── writing the record


def insert(
    connection: Connection, server: Server, mapping: list[BlockDevice], tagged: Sequence[str], spec: RequestSpec
) -> None:
    """The server's first record, with its block devices, tags and request spec."""
    values = {name: getattr(server, name) for name in Server.__struct_fields__ if name != "number"}
    insert_row(connection, servers, values)
    _insert_devices(connection, server.id, mapping)
    if tagged:
        set_tags(connection, server.id, tagged)
    insert_row(connection, specs, {"server_id": server.id, "spec": msgspec.to_builtins(spec)})


def _insert_devices(connection: Connection, server_id: str, mapping: list[BlockDevice]) -> None:
    rows = [
        {
            "id": device.id,
            "server_id": server_id,
            "position": position,
            "volume_id": device.volume_id,
            "delete_on_termination": device.delete_on_termination,
            "mapping": msgspec.to_builtins(device),
        }
        for position, device in enumerate(mapping)
    ]
    insert_all(connection, devices, rows)


def set_tags(connection: Connection, server_id: str, tagged: Iterable[str]) -> None:
    """The server has exactly these tags."""
    delete(connection, tags, server_id=server_id)
    insert_all(connection, tags, [{"server_id": server_id, "tag": tag} for tag in dict.fromkeys(tagged)])


def change(connection: Connection, server_id: str, now: datetime, values: dict[str, Any]) -> None:
    """Change what is not state: name, description, metadata, addresses …"""
    changed = servers.update().where(servers.c.id == server_id, servers.c.deleted_at.is_(None))
    if not connection.execute(changed.values(**values, updated_at=now)).rowcount:
        raise no_such(server_id)


# ── state: the one way it moves


def take(
    connection: Connection, server_id: str, action: str, operation: OperationRow, *, admin: bool = False
) -> Server:
    """The server as it was, now owned by `operation` and busy as the table says; CONFLICT when it may not start.

    Two requests that race: the update compares what was read, so only one of them wins.
    """
    server = get(connection, server_id, lock=True)
    take_seen(connection, server, action, operation, admin=admin)
    return server


def take_seen(connection: Connection, server: Server, action: str, operation: OperationRow, *, admin: bool) -> None:
    """`take` of a server that this unit has read already."""
    row = states.check(action, server.now(), admin=admin)
    if action in states.REBUILDS_GUEST:
        states.nothing_beside(action, server.id, unfinished_operations(connection, server.id))
    _move(connection, server, {"task_state": row.busy, "operation_id": operation.id}, operation.created_at)


def do_at_once(
    connection: Connection, server_id: str, action: str, now: datetime, values: dict[str, Any], *, admin: bool = False
) -> Server:
    """The server as it was, after a change that the table allows now and that needs no operation."""
    server = get(connection, server_id, lock=True)
    states.check(action, server.now(), admin=admin)
    _move(connection, server, values, now)
    return server


def _move(connection: Connection, seen: Server, values: dict[str, Any], now: datetime) -> None:
    names = ("id", "vm_state", "task_state", "operation_id")
    if not update(connection, servers, {name: getattr(seen, name) for name in names}, {**values, "updated_at": now}):
        raise conflict(f"Instance {seen.id} changed while the request was looked at.", hint="Look at it and try again.")


def owned(connection: Connection, server_id: str, operation_id: str, now: datetime, values: dict[str, Any]) -> None:
    """Write as the operation that owns the server; Superseded when it does not any more."""
    if not update(connection, servers, {"id": server_id, "operation_id": operation_id}, {**values, "updated_at": now}):
        raise Superseded(operation_id)


def show_task(connection: Connection, row: OperationRow, value: str) -> None:
    """What users see meanwhile."""
    owned(connection, row.resource_id, row.id, row.updated_at or row.created_at, {"task_state": value})


def end(
    connection: Connection, server_id: str, operation_id: str, action: str, now: datetime, values: dict[str, Any]
) -> None:
    """The operation ended well: the state that the table says (or `values`), no task, no owner."""
    ended = states.ACTIONS[action].ends if action in states.ACTIONS else states.ACTIVE
    moved = {"task_state": "", "operation_id": "", "progress": 0, **({"vm_state": ended} if ended else {})}
    owned(connection, server_id, operation_id, now, moved | values)
    delete(connection, faults, server_id=server_id)


def give_back(connection: Connection, server_id: str, operation_id: str, now: datetime) -> None:
    """The operation failed and was undone: the state it found, no task, no owner. Not the owner: nothing."""
    mine = {"id": server_id, "operation_id": operation_id}
    update(connection, servers, mine, {"task_state": "", "operation_id": "", "updated_at": now})


def to_error(connection: Connection, server_id: str, operation_id: str, now: datetime, fault: Fault) -> None:
    """The operation failed and the server cannot go on as it was. Not the owner: nothing."""
    mine = servers.update().where(
        servers.c.id == server_id, servers.c.operation_id == operation_id, servers.c.deleted_at.is_(None)
    )
    moved = {"vm_state": states.ERROR, "task_state": "", "operation_id": "", "updated_at": now}
    if connection.execute(mine.values(**moved)).rowcount:
        record_fault(connection, server_id, fault, now)


def record_fault(connection: Connection, server_id: str, fault: Fault, now: datetime) -> None:
    """Keep why; replaces an earlier fault."""
    details = "\n".join(str(line) for line in fault.data.get("details", ())) or fault.inside
    delete(connection, faults, server_id=server_id)
    values = {"message": fault.told[:4000], "details": details[:16000]}
    insert_row(connection, faults, {"server_id": server_id, "code": 500, "created_at": now, **values})


# ── what the steps of create and delete write


def place(connection: Connection, server_id: str, operation_id: str, host: tuple[str, str, str]) -> None:
    """The record names the chosen (host, node, availability zone)."""
    values = {"host": host[0], "node": host[1], "availability_zone": host[2]}
    if not update(connection, servers, {"id": server_id, "operation_id": operation_id}, values):
        raise Superseded(operation_id)


def ports_as(ports: list[PortBinding]) -> dict[str, Any]:
    """The columns to write for these ports."""
    return {"ports": msgspec.to_builtins(ports), "ports_revision": ONE_MORE}


def set_devices(connection: Connection, server_id: str, mapping: list[BlockDevice]) -> None:
    """The server's block devices, as block storage connected them."""
    delete(connection, devices, server_id=server_id)
    _insert_devices(connection, server_id, mapping)


def connect_devices(connection: Connection, server_id: str, connected: list[BlockDevice]) -> None:
    """What block storage made of the server's devices: volume, attachment, connection; the user's wishes stay."""
    made = {device.id: device for device in connected}
    mapping = devices_of(connection, server_id)
    for device in mapping:
        if new := made.get(device.id):
            device.volume_id, device.attachment_id = new.volume_id, new.attachment_id
            device.connection = new.connection
    set_devices(connection, server_id, mapping)


def unplace(connection: Connection, server_id: str) -> None:
    """No host has the server, so it has no addresses."""
    update(connection, servers, {"id": server_id}, {"host": "", "node": "", "availability_zone": "", **ports_as([])})


@lone
@says("servers: where they are")
def whereabouts(connection: Connection, server_ids: list[str]) -> dict[str, tuple[str, str]]:
    """Server id → (host or "", task_state), of those that are there."""
    found = _WHEREABOUTS.all(connection, ids=server_ids)
    return {id_: (host, task_state) for id_, host, task_state in found}


def host_of(connection: Connection, server_id: str) -> str:
    """The host that has the server; "" when none has."""
    return _HOST.scalar(connection, server=server_id) or ""


def hide(connection: Connection, server_id: str, operation_id: str, now: datetime) -> None:
    """Deleted for the user; the operation goes on."""
    values = {"vm_state": states.DELETED, "deleted_at": now, "terminated_at": now}
    owned(connection, server_id, operation_id, now, values)


def end_deleted(connection: Connection, server_id: str, operation_id: str, now: datetime) -> None:
    """Deleted: the record stays for lists that ask for changes, without anything that it held."""
    kept = _DELETED_AT.scalar(connection, server=server_id) or now
    values = {"vm_state": states.DELETED, "deleted_at": kept, "terminated_at": kept, "task_state": ""}
    values |= {"operation_id": "", **ports_as([]), "user_data": "", "power_state": "nostate", "locked": False}
    owned(connection, server_id, operation_id, now, values)
    for table in (devices, tags, specs):
        delete(connection, table, server_id=server_id)


def forget_before(connection: Connection, moment: datetime, limit: int = 500) -> int:
    """Remove the records of servers deleted before `moment`; returns how many."""
    gone = sa.select(servers.c.id).where(servers.c.deleted_at < moment, servers.c.operation_id == "").limit(limit)
    old = list(connection.scalars(gone))
    connection.execute(faults.delete().where(faults.c.server_id.in_(old)))
    connection.execute(servers.delete().where(servers.c.id.in_(old)))
    return len(old)


# ── what is kept as JSON, typed


def port_requests_of(server: Server) -> list[PortRequest]:
    """What was asked for on each NIC."""
    return msgspec.convert(server.port_requests, list[PortRequest])


def ports_of(server: Server) -> list[PortBinding]:
    """The server's ports as last recorded."""
    return msgspec.convert(server.ports, list[PortBinding])
