"""The scheduler's view of hosts, read from compute's own tables."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.world import LiveWorld
from kilonova.compute.contract import HostReport
from kilonova.compute.host import service_store
from kilonova.compute.host import store as hosts
from kilonova.compute.scheduler.view import DatabaseHosts
from kilonova.compute.server.store import servers
from kilonova.compute.service import MIGRATIONS
from kilonova.db.inline import InlineDatabase
from kilonova.db.migrations import ensure_current

FILLERS: dict[type, Any] = {sa.String: "", sa.Text: "", sa.Integer: 1, sa.Boolean: False, sa.JSON: {}}


def insert_server(connection: Connection, id_: str, **values: Any) -> None:
    """A server's row of which only `values` matter."""
    row: dict[str, Any] = {}
    for column in servers.c:
        if not column.nullable and column.name != "number":
            kinds = [filler for kind, filler in FILLERS.items() if isinstance(column.type, kind)]
            row[column.name] = kinds[0] if kinds else datetime.now(UTC)
    connection.execute(sa.insert(servers).values({**row, "id": id_, **values}))


async def test_hosts_are_seen_with_their_servers_and_service() -> None:
    world = LiveWorld("test")
    db = InlineDatabase("nova", world.clock)
    await ensure_current(db, MIGRATIONS)
    now = world.clock.now()
    for name, age_seconds in (("node1", 5), ("node2", 90), ("node3", 5)):
        said = HostReport(name, f"{name}.example", "QEMU", 1, 8, 8192, 100, "10.0.0.1", {"arch": "x86_64"})
        await db.write(hosts.report, said, f"provider-{name}", now - timedelta(seconds=age_seconds))
    await db.write(insert_server, "a", host="node1", task_state="spawning")
    await db.write(insert_server, "b", host="node1")
    await db.write(insert_server, "gone", host="node1", deleted_at=now)

    view = DatabaseHosts(world, db, lambda _: lambda name: f"zone-{name[-1]}", disabled=lambda _: {"node3": "fan"})
    one, two, three = await view.states()
    assert (one.host, one.node, one.provider_id) == ("node1", "node1.example", "provider-node1")
    assert (one.servers, one.building) == (frozenset("ab"), 1)
    assert (one.availability_zone, one.hypervisor_type, one.cpu_info) == ("zone-1", "QEMU", {"arch": "x86_64"})
    assert (one.up, two.up, three.up) == (True, False, True)
    assert (three.enabled, three.disabled_reason) == (False, "fan")

    await db.write(service_store.add, {"node1": "service-1", "node3": "service-3"})
    await db.write(service_store.change, 1, now, {"forced_down": True})
    await db.write(service_store.change, 2, now, {"disabled": True, "disabled_reason": "dust"})
    one, _, three = await DatabaseHosts(world, db, lambda _: lambda _host: "nova").states()
    assert (one.up, one.enabled) == (False, True)
    assert (three.up, three.enabled, three.disabled_reason) == (True, False, "dust")
    await world.close()
