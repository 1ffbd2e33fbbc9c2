"""The block storage service: what its handlers get, its routes and rules, its API."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy import Connection

from kilonova.base.world import World
from kilonova.block_storage.attachment import resource as attachments
from kilonova.block_storage.backend import resource as backends
from kilonova.block_storage.contract import EXCHANGE, SCHEDULER_TOPIC, VOLUME_TOPIC, VolumeAgent, VolumeScheduler
from kilonova.block_storage.discovery import DISCOVERY
from kilonova.block_storage.message import resource as messages
from kilonova.block_storage.paths import under_v3
from kilonova.block_storage.quota import resource as quotas
from kilonova.block_storage.quota.store import DEFAULTS
from kilonova.block_storage.snapshot import metadata as snapshot_metadata
from kilonova.block_storage.snapshot import resource as snapshots
from kilonova.block_storage.volume import actions, metadata, new, resource
from kilonova.block_storage.volume_type import resource as volume_types
from kilonova.bus import rpc
from kilonova.bus.contract import Bus, Target
from kilonova.db.database import Database
from kilonova.http.app import App
from kilonova.http.contract import Authenticator, Enforcer
from kilonova.http.faults import BLOCK_STORAGE
from kilonova.http.request import Request
from kilonova.http.versions import Versioning
from kilonova.image.contract import Images
from kilonova.policy.personas import block_storage_base_rules
from kilonova.saga.journal import OperationRow
from kilonova.saga.seal import Sealer
from kilonova.trace import spans

MIGRATIONS = "kilonova.block_storage.migrations"
VERSIONING = Versioning("volume", (3, 0), (3, 71), (3, 0))


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
        caller, context = request.caller, spans.current()
        return OperationRow(
            id=self.world.ids.uuid(),
            kind=kind,
            version=1,
            resource_id=resource_id,
            args=args,
            user_id=caller.user_id,
            project_id=caller.project_id,
            request_id=request.request_id,
            created_at=self.world.clock.now(),
            sealed=self.sealer.seal(msgspec.to_builtins({"token": caller.token})),
            traceparent=context.traceparent if context else "",
        )

    async def start(self, row: OperationRow, unit: Callable[..., Any], *args: Any) -> Any:
        """What `unit(connection, *args)` returns; it records the operation, then a scheduler is told."""

        def record(connection: Connection) -> Any:
            return unit(connection, *args)

        record.says = f"records: {row.kind}" if "_" in row.kind else f"records: {row.kind} volume"  # type: ignore[attr-defined]
        made = await self.db.write(record)
        scheduler = rpc.client(VolumeScheduler, self.bus, Target(EXCHANGE, SCHEDULER_TOPIC))
        await scheduler.run_operation(row.id)
        return made


ROUTES = (
    *DISCOVERY,
    *under_v3(
        (
            *resource.ROUTES,
            *new.ROUTES,
            *metadata.ROUTES,
            *actions.ROUTES,
            *attachments.ROUTES,
            *snapshots.ROUTES,
            *snapshot_metadata.ROUTES,
            *volume_types.ROUTES,
            *quotas.ROUTES,
            *backends.ROUTES,
            *messages.ROUTES,
        )
    ),
)
RULES = (
    *block_storage_base_rules,
    *resource.RULES,
    *new.RULES,
    *metadata.RULES,
    *actions.RULES,
    *attachments.RULES,
    *snapshots.RULES,
    *snapshot_metadata.RULES,
    *volume_types.RULES,
    *quotas.RULES,
    *backends.RULES,
    *messages.RULES,
)


def block_storage_app(service: BlockStorage, authenticator: Authenticator, enforcer: Enforcer) -> App:
    """The block storage API as an ASGI application."""
    return App(
        service.world,
        service,
        ROUTES,
        participant="cinder",
        style=BLOCK_STORAGE,
        versioning=VERSIONING,
        authenticator=authenticator,
        enforcer=enforcer,
    )
