"""The scheduler's view of hosts, read from compute's own tables."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.world import LiveWorld
from kilonova.compute.aggregate import store as aggregates
from kilonova.compute.contract import GroupSpec, HostReport, Rejection
from kilonova.compute.host import service_store
from kilonova.compute.host import store as hosts
from kilonova.compute.scheduler import kept
from kilonova.compute.scheduler.kept import DatabaseRecorder, Kept
from kilonova.compute.scheduler.view import DatabaseHosts
from kilonova.compute.server.store import servers
from kilonova.compute.server_group import store as groups
from kilonova.compute.service import MIGRATIONS
from kilonova.db.inline import InlineDatabase
from kilonova.db.migrations import ensure_current
from tests.unit.compute.scheduler.hosts import request

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

    view = DatabaseHosts(world, db, lambda _: lambda name: f"zone-{name[-1]}", counting=True)
    first = await view.current()
    one, two, three = first.states
    assert (one.host, one.node, one.provider_id) == ("node1", "node1.example", "provider-node1")
    assert first.counts == {"node1": (2, 1)}
    assert (one.availability_zone, one.hypervisor_type, one.cpu_info) == ("zone-1", "QEMU", {"arch": "x86_64"})
    assert (one.up, two.up, three.up) == (True, False, True)
    assert (await view.current()).version == first.version, "nothing happened"

    await db.write(service_store.add, {"node1": "service-1", "node3": "service-3"})
    await db.write(service_store.change, 1, now, {"forced_down": True})
    await db.write(service_store.change, 2, now, {"disabled": True, "disabled_reason": "dust"})
    made = await db.write(aggregates.insert, "uuid", "fast", None, now)
    await db.write(aggregates.add_host, made.id, "node2", "nova", now)
    await db.write(aggregates.set_metadata, made.id, {"ssd": "true"}, now + timedelta(seconds=1))
    one, two, three = (await view.current()).states
    assert (one.up, one.enabled) == (False, True)
    assert (three.up, three.enabled, three.disabled_reason) == (True, False, "dust")
    assert two.tagged("ssd") == ["true"]

    said = HostReport("node2", "node2.example", "QEMU", 2, 8, 8192, 100, "10.0.0.1", vcpus_used=3)
    await db.write(hosts.report, said, "provider-node2", now)
    assert (await view.current()).states[1].up is False, "reports are followed once a second"
    seen = await view.current(afresh=True)
    assert (seen.states[1].up, seen.states[1].hypervisor_version) == (True, 2)
    said.vcpus_used = 5
    await db.write(hosts.report, said, "provider-node2", now + timedelta(microseconds=1))
    assert (await view.current(afresh=True)).version == seen.version, "how busy a host is makes no other host of it"

    said.metrics = {"cpu.percent": 0.5}
    await db.write(hosts.report, said, "provider-node2", now + timedelta(microseconds=2))
    measured = await view.current(afresh=True)
    assert (measured.version, measured.states[1].metrics) == (seen.version, {"cpu.percent": 0.5})
    await world.close()


async def test_requests_are_completed_with_groups_and_hosts_of_hinted_servers() -> None:
    world = LiveWorld("test")
    db = InlineDatabase("nova", world.clock)
    await ensure_current(db, MIGRATIONS)
    for id_, name in (("a", "node1"), ("b", "node2"), ("c", "")):
        await db.write(insert_server, id_, host=name)
    group = groups.ServerGroup("g", "project", "user", "g", "anti-affinity", 2, world.clock.now())
    await db.write(groups.insert, group)
    await db.write(groups.join, "g", "project", "a")
    await db.write(groups.join, "g", "project", "c")
    view = DatabaseHosts(world, db, lambda _: lambda _host: "nova")
    grouped = request(scheduler_hints={"group": "g"})
    grouped.server_id = "c"
    near = request(scheduler_hints={"same_host": ["a", "gone"], "different_host": "b"})
    outside = request(scheduler_hints={"group": "g"})
    await view.complete([grouped, near, outside])
    assert grouped.group == outside.group == GroupSpec("anti-affinity", 2, {"node1": 1})
    assert near.near == {"a": "node1", "b": "node2"}
    await world.close()


async def test_decisions_are_kept_for_days_and_no_more_than_so_many() -> None:
    world = LiveWorld("test")
    db = InlineDatabase("nova", world.clock)
    await ensure_current(db, MIGRATIONS)
    now, recorder = world.clock.now(), DatabaseRecorder(db)
    made = [
        Kept(f"id{n}", f"server{n}", "req-1", "project", now - timedelta(days=10 - n), "", 7, "No.", {"flavor": "f"},
             [("Placement", 0)], [("node1", 1.5)], [Rejection("node1", "Placement", "no room")])
        for n in range(10)
    ]  # fmt: skip
    await recorder.keep(made)
    assert await db.read(kept.found, "server3") == [made[3]]
    assert [one.id for one in await db.read(kept.found, "req-1", "project", 2)] == ["id9", "id8"]
    assert await db.write(kept.forget, now + timedelta(seconds=1), 7, 5) == 5
    assert [one.id for one in await db.read(kept.found, "")] == ["id9", "id8", "id7", "id6", "id5"]
    await world.close()
