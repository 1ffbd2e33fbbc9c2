"""The scheduler's reading of compute's own tables: hosts as they reported, and which servers live where."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.compute.host import store as hosts
from kilonova.compute.scheduler.state import HostState
from kilonova.compute.server.store import servers

# Tasks that load a host's disk and network.
BUSY = ("scheduling", "networking", "block_device_mapping", "spawning", "rebuilding", "image_snapshot", "resize_prep")
Zones = Callable[[Connection], Callable[[str], str]]  # a reading of all hosts' zones: host → zone


def host_states(
    connection: Connection, alive_since: datetime, zone_of: Callable[[str], str], disabled: Mapping[str, str]
) -> list[HostState]:
    """All hosts by name. `disabled` maps those that operators took out of service to their reason."""
    living: dict[str, set[str]] = {}
    building: dict[str, int] = {}
    query = sa.select(servers.c.host, servers.c.id, servers.c.task_state)
    for name, server_id, task in connection.execute(query.where(servers.c.host != "", servers.c.deleted_at.is_(None))):
        living.setdefault(name, set()).add(server_id)
        building[name] = building.get(name, 0) + (task in BUSY)
    return [
        HostState(
            host.name,
            str(host.report.get("node", host.name)),
            host.provider_id,
            up=host.reported_at >= alive_since,
            enabled=host.name not in disabled,
            disabled_reason=disabled.get(host.name, ""),
            availability_zone=zone_of(host.name),
            hypervisor_type=str(host.report.get("hypervisor_type", "")),
            cpu_info=host.report.get("cpu_info", {}),
            servers=frozenset(living.get(host.name, ())),
            building=building.get(host.name, 0),
        )
        for host in hosts.every(connection)
    ]
