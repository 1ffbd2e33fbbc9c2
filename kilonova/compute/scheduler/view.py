"""Hosts as compute's database knows them: implements `state.Hosts` for the scheduler process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta

import msgspec
from sqlalchemy import Connection

from kilonova.base.world import World
from kilonova.compute.contract import GroupSpec
from kilonova.compute.host import service_store
from kilonova.compute.scheduler import store
from kilonova.compute.scheduler.state import HostState
from kilonova.compute.server_group import store as group_store
from kilonova.db.database import Database

Disabled = Callable[[Connection], Mapping[str, str]]


class DatabaseHosts:
    """Read afresh for each decision. `zones` is the catalogue's; `disabled` answers host → reason."""

    def __init__(
        self,
        world: World,
        db: Database,
        zones: store.Zones,
        *,
        disabled: Disabled = service_store.disabled,
        host_down_seconds: float = 60.0,
    ) -> None:
        self._world = world
        self._db = db
        self._zones = zones
        self._disabled = disabled
        self._down = timedelta(seconds=host_down_seconds)

    async def states(self) -> list[HostState]:
        """All compute hosts, down and disabled ones too."""
        return await self._db.read(self._read)

    async def group_of(self, server_id: str) -> GroupSpec | None:
        """The server's group and where the others of it are; None when it is in none."""
        return await self._db.read(group_store.spec_of, server_id)

    def _read(self, connection: Connection) -> list[HostState]:
        since = self._world.clock.now() - self._down
        found = store.host_states(connection, since, self._zones(connection), self._disabled(connection))
        down = service_store.forced_down(connection)
        return [msgspec.structs.replace(one, up=False) if one.host in down else one for one in found]
