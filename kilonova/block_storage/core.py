"""What block storage's handlers get: the database, the bus, how an operation is recorded and begun."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from kilonova.base.world import World
from kilonova.block_storage.contract import EXCHANGE, SCHEDULER_TOPIC, VOLUME_TOPIC, VolumeAgent, VolumeScheduler
from kilonova.block_storage.quota.store import DEFAULTS
from kilonova.bus import rpc
from kilonova.bus.contract import Bus, Target
from kilonova.db.database import Database
from kilonova.http.request import Request
from kilonova.image.contract import Images
from kilonova.saga.begin import Wanted, asked
from kilonova.saga.journal import OperationRow
from kilonova.saga.seal import Sealer


@dataclass(frozen=True)
class BlockStorageSettings:
    """The operator's choices."""

    availability_zone: str = "nova"
    default_volume_type: str = "__DEFAULT__"
    quota: Mapping[str, int] = field(default_factory=lambda: dict(DEFAULTS))


@dataclass
class BlockStorage:
    """Given to every handler."""

    world: World
    db: Database
    bus: Bus
    sealer: Sealer
    images: Images
    settings: BlockStorageSettings = field(default_factory=BlockStorageSettings)

    def agent(self, host: str) -> VolumeAgent:
        """The volume agent `HOST@BACKEND`."""
        return rpc.client(VolumeAgent, self.bus, Target(EXCHANGE, VOLUME_TOPIC, host))

    def operation(self, request: Request[Any], kind: str, resource_id: str, args: dict[str, Any]) -> OperationRow:
        """A row for the journal; `start` records and announces it."""
        return asked(self.world, self.sealer, request, Wanted(kind, resource_id, args))

    async def start(self, row: OperationRow, unit: Callable[..., Any], *args: Any) -> Any:
        """What `unit(connection, *args)` returns; it records the operation, then a scheduler is told."""

        def record(connection: Connection) -> Any:
            return unit(connection, *args)

        record.says = f"records: {row.kind}" if "_" in row.kind else f"records: {row.kind} volume"  # type: ignore[attr-defined]
        made = await self.db.write(record)
        scheduler = rpc.client(VolumeScheduler, self.bus, Target(EXCHANGE, SCHEDULER_TOPIC))
        await scheduler.run_operation(row.id)
        return made
