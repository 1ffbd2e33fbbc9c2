"""The block storage service's API: its routes and rules, its app."""

from __future__ import annotations

from kilonova.block_storage.attachment import resource as attachments
from kilonova.block_storage.backend import resource as backends
from kilonova.block_storage.core import BlockStorage, BlockStorageSettings
from kilonova.block_storage.discovery import DISCOVERY
from kilonova.block_storage.message import resource as messages
from kilonova.block_storage.paths import under_v3
from kilonova.block_storage.quota import resource as quotas
from kilonova.block_storage.snapshot import metadata as snapshot_metadata
from kilonova.block_storage.snapshot import resource as snapshots
from kilonova.block_storage.volume import actions, metadata, new, resource
from kilonova.block_storage.volume_type import resource as volume_types
from kilonova.http.app import App
from kilonova.http.contract import Authenticator, Enforcer
from kilonova.http.faults import BLOCK_STORAGE
from kilonova.http.versions import Versioning
from kilonova.policy.personas import block_storage_base_rules

__all__ = ["MIGRATIONS", "ROUTES", "RULES", "BlockStorage", "BlockStorageSettings", "block_storage_app"]

MIGRATIONS = "kilonova.block_storage.migrations"
VERSIONING = Versioning("volume", (3, 0), (3, 71), (3, 0))
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
