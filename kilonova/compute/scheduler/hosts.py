"""The scheduler's view of hosts, read from compute's own tables: reports for who is up, servers for who lives where."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection

from kilonova.base.world import World
from kilonova.compute.core import ComputeSettings
from kilonova.compute.host import store as hosts
from kilonova.compute.scheduler.state import HostState
from kilonova.compute.server import host_store
from kilonova.db.database import Database


class StoredHosts:
    """Implements `scheduler.state.Hosts` over compute's database."""

    def __init__(self, world: World, db: Database, settings: ComputeSettings) -> None:
        self._world = world
        self._db = db
        self._settings = settings

    async def states(self) -> list[HostState]:
        down_since = self._world.clock.now() - timedelta(seconds=self._settings.host_down_seconds)
        return await self._db.read(_states, down_since, self._settings.default_zone)


def _states(connection: Connection, down_since: datetime, zone: str) -> list[HostState]:
    living, building = host_store.by_host(connection)
    made = []
    for host in hosts.every(connection):
        said = host.said
        made.append(
            HostState(
                host=host.name,
                node=said.node,
                provider_id=host.provider_id,
                up=host.reported_at >= down_since,
                availability_zone=zone,
                hypervisor_type=said.hypervisor_type,
                cpu_info=said.cpu_info,
                servers=frozenset(living.get(host.name, ())),
                building=building.get(host.name, 0),
            )
        )
    return made
