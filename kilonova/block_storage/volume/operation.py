"""What the operations on volumes share: the host's verbs, what users see meanwhile, and how a failure is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from sqlalchemy import Connection

from kilonova.base.faults import Fault
from kilonova.base.world import World
from kilonova.block_storage.contract import EXCHANGE, VOLUME_TOPIC, ServerEvents, VolumeHost
from kilonova.block_storage.message import store as message_store
from kilonova.block_storage.message.store import Message
from kilonova.block_storage.volume import store
from kilonova.bus.contract import Target
from kilonova.db.database import Database
from kilonova.saga.journal import OperationRow, Superseded
from kilonova.saga.operation import host


class Services(Protocol):
    """What a flow may use."""

    world: World
    db: Database
    events: ServerEvents | None


def backend_at(name: str) -> VolumeHost:
    """The journalled verbs of the volume agent `HOST@BACKEND`."""
    return host(VolumeHost, Target(EXCHANGE, VOLUME_TOPIC, name))


def show(connection: Connection, row: OperationRow, value: str) -> None:
    """Users see this status now."""
    if not store.change_mine(connection, row.resource_id, row.id, {"status": value}):
        raise Superseded(row.id)


def end(connection: Connection, volume_id: str, operation_id: str, values: dict[str, object]) -> None:
    """The last write of an operation: the volume is free for others."""
    if not store.change_mine(connection, volume_id, operation_id, {**values, "operation_id": ""}):
        raise Superseded(operation_id)


def ends_in(status: str, event_id: str) -> Callable[[Connection, OperationRow, Fault], None]:
    """How an operation of this kind ends when it failed: that status, and a message for the owner."""

    def failed(connection: Connection, row: OperationRow, fault: Fault) -> None:
        values = {"status": status, "updated_at": row.updated_at or row.created_at, "operation_id": ""}
        if store.change_mine(connection, row.resource_id, row.id, values):
            told = Message(
                id=row.id,
                project_id=row.project_id,
                request_id=row.request_id,
                resource_id=row.resource_id,
                event_id=event_id,
                user_message=fault.told,
                created_at=row.updated_at or row.created_at,
            )
            message_store.insert(connection, told)

    return failed
