"""Hosts as compute's database knows them: implements `state.Hosts` for the scheduler process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta

import msgspec
from sqlalchemy import Connection

from kilonova.base.world import World
from kilonova.compute.host import service_store
from kilonova.compute.scheduler import store
from kilonova.compute.scheduler.state import HostState
from kilonova.db.database import Database

Disabled = Callable[[Connection], Mapping[str, str]]


class DatabaseHosts:
    """Read afresh for each decision. `zone_of` is the catalogue's; `disabled` answers host → reason."""

    def __init__(
        self,
        world: World,
        db: Database,
        zone_of: store.Zones,
        *,
        disabled: Disabled = service_store.disabled,
        host_down_seconds: float = 60.0,
    ) -> None:
        self._world = world
        self._db = db
        self._zone_of = zone_of
        self._disabled = disabled
        self._down = timedelta(seconds=host_down_seconds)

    async def states(self) -> list[HostState]:
        """All compute hosts, down and disabled ones too."""
        return await self._db.read(self._read)

    def _read(self, connection: Connection) -> list[HostState]:
        since = self._world.clock.now() - self._down
        found = store.host_states(connection, since, self._zone_of, self._disabled(connection))
        down = service_store.forced_down(connection)
        return [msgspec.structs.replace(one, up=False) if one.host in down else one for one in found]
