"""The scheduler over a real placement: the claim, the alternates, lost races, and what is said when nothing fits."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from kilonova.base.faults import Fault, Kind
from kilonova.base.world import LiveWorld
from kilonova.bus import rpc
from kilonova.bus.contract import Message, Target
from kilonova.bus.memory import MemoryBroker, MemoryBus
from kilonova.bus.signing import DerivedKeys
from kilonova.compute.contract import EXCHANGE, SCHEDULER_TOPIC, Flavor, GroupSpec, RequestSpec, Scheduler
from kilonova.compute.scheduler.kept import Kept
from kilonova.compute.scheduler.rules import SchedulerSettings
from kilonova.compute.scheduler.state import HostState, HostsView
from kilonova.compute.scheduler.worker import SchedulerWorker
from kilonova.db.inline import InlineDatabase
from kilonova.placement.client import PlacementClient
from kilonova.placement.contract import Inventory
from kilonova.trace import spans
from tests.api.placement.doors import placement_client, placement_door
from tests.unit.compute.scheduler.hosts import request


class Cloud:
    """Three hosts: node1 4 GB, node2 8 GB, node3 8 GB."""

    def __init__(self, world: LiveWorld, placement: PlacementClient) -> None:
        self.world = world
        self.placement = placement
        self.hosts: list[HostState] = []
        self.group: GroupSpec | None = None
        self.kept: list[Kept] = []
        self.version = 0
        self.scheduler = SchedulerWorker(world, placement, self, recorder=self)

    async def current(self, *, afresh: bool = False) -> HostsView:
        self.version += 1
        await asyncio.sleep(0)  # as a database does: others may ask meanwhile
        return HostsView(self.version, list(self.hosts), self.version)

    async def complete(self, specs: Sequence[RequestSpec]) -> None:
        for spec in specs:
            spec.group = self.group

    async def flavors(self, project_id: str) -> list[Flavor]:
        sizes = {"m1.small": 2048, "m1.medium": 4096, "m1.large": 8192, "m1.xlarge": 16384}
        return [Flavor(name, name, 1, memory_mb, 0) for name, memory_mb in sizes.items()]

    async def keep(self, decisions: Sequence[Kept], *, unhurried: bool = False) -> None:
        assert unhurried == all(one.host for one in decisions), "somebody waits for why there is no host"
        self.kept += decisions

    async def add(self, name: str, memory_mb: int, **more: object) -> None:
        id_ = self.world.ids.uuid()
        books = {"VCPU": Inventory(8), "MEMORY_MB": Inventory(memory_mb)}
        await self.placement.ensure_provider(id_, name, books, ["COMPUTE_NODE"])
        self.hosts.append(HostState(name, name, id_, **more))  # type: ignore[arg-type]

    def wants(self, memory_mb: int, **more: object) -> RequestSpec:
        spec = request(resources={"VCPU": 1, "MEMORY_MB": memory_mb, "DISK_GB": 0}, **more)
        spec.server_id = self.world.ids.uuid()
        return spec

    async def refusal(self, spec: RequestSpec) -> Fault:
        with pytest.raises(Fault) as caught:
            await self.scheduler.select_destinations(spec)
        assert await self.placement.allocations(spec.server_id) == {}
        assert caught.value.kind is Kind.NO_CAPACITY
        return caught.value


@pytest.fixture
async def cloud() -> AsyncIterator[Cloud]:
    world = LiveWorld("test")
    app = await placement_door(world, InlineDatabase("placement", world.clock))
    made = Cloud(world, placement_client(app, world))
    for name, memory_mb in (("node1", 4096), ("node2", 8192), ("node3", 8192)):
        await made.add(name, memory_mb)
    yield made
    await world.close()


async def test_the_best_host_is_claimed_and_alternates_are_named(cloud: Cloud) -> None:
    spec = cloud.wants(1024)
    first, *alternates = await cloud.scheduler.select_destinations(spec)
    assert first.host in ("node2", "node3")
    assert {first.host, *(one.host for one in alternates)} == {"node1", "node2", "node3"}
    assert await cloud.placement.allocations(spec.server_id) == {first.provider_id: {"VCPU": 1, "MEMORY_MB": 1024}}
    again, *_ = await cloud.scheduler.select_destinations(spec)
    held = await cloud.placement.allocations(spec.server_id)
    assert held == {again.provider_id: again.resources}, "asked twice, claimed once"


async def test_placement_is_asked_once_while_nobody_else_changes_the_books() -> None:
    world = LiveWorld("test")
    app = await placement_door(world, InlineDatabase("placement", world.clock))
    asked: list[str] = []

    async def noted(scope: Any, receive: Any, send: Any) -> None:
        asked.append(f"{scope['method']} {scope['path']}")
        await app(scope, receive, send)

    cloud = Cloud(world, placement_client(noted, world))  # type: ignore[arg-type]
    await cloud.add("node1", 8192)
    for expected in (["GET /changes", "POST /claims"], ["POST /claims"], ["POST /claims"]):
        asked.clear()
        await cloud.scheduler.select_destinations(first := cloud.wants(1024))
        assert asked == expected
    await cloud.placement.release(first.server_id)
    asked.clear()
    full = cloud.wants(6144)
    assert (await cloud.scheduler.select_destinations(full))[0].host == "node1", "what was released is seen"
    assert asked == ["GET /changes", "POST /claims"], "the books as they were known had no room for it"
    await cloud.placement.release(full.server_id)
    asked.clear()
    await cloud.scheduler.select_destinations(cloud.wants(1024))
    assert asked == ["POST /claims", "POST /claims"], "the first claimed nothing, and told what had changed"
    asked.clear()
    await cloud.scheduler.select_destinations(cloud.wants(1024))
    assert asked == ["POST /claims"]
    await world.close()


async def test_a_tenant_is_told_what_is_missing(cloud: Cloud) -> None:
    fault = await cloud.refusal(cloud.wants(16384))
    assert fault.message == (
        "No valid host was found. The server needs 16384 MB of memory, the largest free is 8192 MB of memory."
    )
    assert "node" not in fault.told, "no host names for tenants"
    assert [one["host"] for one in fault.data["rejections"]] == ["node1", "node2", "node3"]
    first = fault.data["rejections"][0]
    assert first["reason"] == "no room for 16384 MB of memory (free: 4096 of 4096, ratio 1)"
    assert first["short"] == {"MEMORY_MB": {"asked": 16384, "free": 4096, "capacity": 4096, "ratio": 1.0}}
    assert "node2: Placement: no room" in fault.inside


async def test_filters_have_their_own_words(cloud: Cloud) -> None:
    fault = await cloud.refusal(cloud.wants(1024, availability_zone="moon"))
    assert fault.message == "No valid host was found. No host in availability zone moon can take it."
    assert {one["filter"] for one in fault.data["rejections"]} == {"AvailabilityZoneFilter"}


async def test_a_trait_that_nobody_has(cloud: Cloud) -> None:
    for name in ("HW_CPU_X86_VMX", "CUSTOM_NEVER_HEARD_OF"):
        fault = await cloud.refusal(cloud.wants(1024, extra_specs={f"trait:{name}": "required"}))
        assert "lacks a required trait" in fault.data["rejections"][0]["reason"]
    assert await cloud.scheduler.select_destinations(cloud.wants(1, extra_specs={"trait:COMPUTE_NODE": "required"}))


async def test_without_hosts_it_says_so(cloud: Cloud) -> None:
    cloud.hosts.clear()
    assert (await cloud.refusal(cloud.wants(1024))).inside == "there is no compute host"


async def test_who_does_not_wait_any_more_gets_nothing(cloud: Cloud) -> None:
    """It has asked another scheduler by now: a claim from here would undo that one's."""
    spec = cloud.wants(1024)
    late = Message(
        "id", "nova", "scheduler", "", 1, "select_destinations", {}, "call", "conductor", 0.0,
        deadline_at=cloud.world.clock.now().timestamp() - 1,
    )  # fmt: skip
    context = contextvars.copy_context()
    context.run(rpc.handle, late)
    with pytest.raises(Fault) as caught:
        await asyncio.create_task(cloud.scheduler.select_destinations(spec), context=context)
    assert caught.value.kind is Kind.UNAVAILABLE
    assert await cloud.placement.allocations(spec.server_id) == {}
    assert await cloud.scheduler.select_destinations(cloud.wants(1024)), "others are served"


async def test_racing_schedulers_fill_the_hosts_exactly(cloud: Cloud) -> None:
    others = [SchedulerWorker(cloud.world, cloud.placement, cloud, SchedulerSettings(claim_attempts=2)) for _ in "abc"]
    specs = [cloud.wants(2048) for _ in range(14)]
    done = await asyncio.gather(
        *(others[n % 3].select_destinations(spec) for n, spec in enumerate(specs)), return_exceptions=True
    )
    refused = [one for one in done if isinstance(one, BaseException)]
    assert len(done) - len(refused) == 10, "20480 MB hold ten servers of 2048 MB"
    assert all(isinstance(one, Fault) and one.kind is Kind.NO_CAPACITY for one in refused)


async def test_over_the_bus_with_a_trace(cloud: Cloud) -> None:
    broker, keys = MemoryBroker(b"key"), DerivedKeys(b"key")
    worker_bus = MemoryBus(cloud.world, broker, "scheduler.ctl", keys)
    caller_bus = MemoryBus(cloud.world, broker, "conductor.ctl", keys)
    subscription = await cloud.scheduler.serve(worker_bus, "ctl")
    scheduler = rpc.client(Scheduler, caller_bus, Target(EXCHANGE, SCHEDULER_TOPIC))
    context = spans.begin("nova_conductor")
    with spans.within(context):
        found = await scheduler.select_destinations(cloud.wants(1024))
        with pytest.raises(Fault) as caught:
            await scheduler.select_destinations(cloud.wants(99999))
    assert len(found) == 3
    assert len(caught.value.data["rejections"]) == 3, "reasons cross the wire"
    seen = [span for span in spans.RING.spans if span.trace_id == context.trace_id]
    assert ("nova_scheduler", "placement") in {(span.source, span.target) for span in seen}
    assert any(span.name.startswith("3 of 3 hosts have room; left: ComputeFilter 3") for span in seen)
    await subscription.close()
    await worker_bus.close()
    await caller_bus.close()


@pytest.mark.parametrize(
    ("policy", "goes_to"),
    [("anti-affinity", {"node1", "node3"}), ("affinity", {"node2"}), ("soft-affinity", {"node2"}),
     ("soft-anti-affinity", {"node1", "node3"})],
)  # fmt: skip
async def test_a_group_keeps_its_servers_together_or_apart(cloud: Cloud, policy: str, goes_to: set[str]) -> None:
    cloud.group = GroupSpec(policy, 1, {"node2": 1})
    for _ in range(4):
        chosen = (await cloud.scheduler.select_destinations(cloud.wants(512, scheduler_hints={"group": "g"})))[0]
        assert chosen.host in goes_to
    cloud.group = GroupSpec(policy, 1, {"node1": 1, "node2": 1, "node3": 1})
    if policy == "anti-affinity":
        refused = await cloud.refusal(cloud.wants(512, scheduler_hints={"group": "g"}))
        assert "as many servers of the group as its policy allows" in refused.message
    cloud.group = GroupSpec(policy, 2, {"node1": 1, "node2": 2, "node3": 1})
    chosen = (await cloud.scheduler.select_destinations(cloud.wants(512, scheduler_hints={"group": "g"})))[0]
    if policy == "anti-affinity":
        assert chosen.host != "node2"


async def test_the_nearest_fit_is_named_and_reasons_are_kept(cloud: Cloud) -> None:
    spec = cloud.wants(16384)
    spec.flavor = Flavor("9", "m1.xlarge", 8, 16384, 0)
    fault = await cloud.refusal(spec)
    assert fault.hint == "Flavor m1.large would fit."
    made = cloud.kept[-1]
    assert (made.server_id, made.host, len(made.rejections)) == (spec.server_id, "", 3)
    assert made.message.startswith("No valid host was found. The server needs 16384 MB")
    placed = cloud.wants(1024)
    chosen = (await cloud.scheduler.select_destinations(placed))[0]
    await asyncio.sleep(0.01)  # whoever asked for a host does not wait until that is kept
    made = cloud.kept[-1]
    assert (made.server_id, made.host, made.rejections, made.counts[0]) == (
        placed.server_id, chosen.host, [], ("Placement", 3)
    )  # fmt: skip
    assert {name for name, _ in made.best} == {"node1", "node2", "node3"}
    assert made.snapshot > 0


async def test_what_is_free_is_said_of_hosts_that_would_take_it(cloud: Cloud) -> None:
    cloud.hosts[0].availability_zone = "east"
    spec = cloud.wants(6000, availability_zone="east")
    spec.flavor = Flavor("9", "m1.odd", 1, 6000, 0)
    fault = await cloud.refusal(spec)
    assert "needs 6000 MB of memory, the largest free in availability zone east is 4096 MB" in fault.message
    assert fault.hint == "Flavor m1.medium would fit.", "of 4096 MB, which node1 in the zone has"
    cloud.hosts[0].up = False
    fault = await cloud.refusal(spec)
    assert fault.message.endswith("No host in availability zone east can take it.")


async def test_a_flavor_that_would_fit_fits_on_one_host(cloud: Cloud) -> None:
    for host in cloud.hosts[1:]:  # 8192 MB, and one CPU left
        other = cloud.wants(1)
        other.resources, other.requested_host = {"VCPU": 7, "MEMORY_MB": 1}, host.host
        await cloud.scheduler.select_destinations(other)
    spec = cloud.wants(8192)
    spec.flavor, spec.resources = Flavor("9", "m1.wide", 4, 8192, 0), {"VCPU": 4, "MEMORY_MB": 8192}

    async def flavors(project_id: str) -> list[Flavor]:
        return [Flavor(name, name, 4, memory_mb, 0) for name, memory_mb in (("a", 2048), ("b", 4096), ("c", 8191))]

    cloud.flavors = flavors  # type: ignore[method-assign]
    assert (await cloud.refusal(spec)).hint == "Flavor b would fit."
    spec.least_memory_mb = 4097  # the image's
    assert "would fit" not in (await cloud.refusal(spec)).hint


async def test_a_batch_is_claimed_together_and_keeps_groups_apart(cloud: Cloud) -> None:
    cloud.group = GroupSpec("anti-affinity", 1, {})
    specs = [cloud.wants(512, scheduler_hints={"group": "g"}) for _ in range(5)]
    done = await asyncio.gather(*map(cloud.scheduler.select_destinations, specs), return_exceptions=True)
    hosts = [one[0].host if isinstance(one, list) else "" for one in done]  # the first found nobody else waiting
    assert sorted(hosts[1:]) == ["", "node1", "node2", "node3"], "those decided together know of each other"


async def test_a_dry_run_says_how_many_fit_and_what_stops_the_next(cloud: Cloud) -> None:
    fit = await cloud.scheduler.could_boot(cloud.wants(4096), 40)
    assert (fit.fits, fit.where) == (5, {"node1": 1, "node2": 2, "node3": 2})
    assert "needs 4096 MB of memory, the largest free is 0 MB" in fit.message
    assert len(fit.rejections) == 3
    again = await cloud.scheduler.could_boot(cloud.wants(4096), 5)
    assert (again.fits, again.message) == (5, ""), "nothing was claimed"
    fit = await cloud.scheduler.could_boot(cloud.wants(1024, scheduler_hints={"group": "g"}), 0)
    assert fit.fits == 0


async def test_a_group_of_resources_may_come_from_a_part_of_the_host(cloud: Cloud) -> None:
    parent = cloud.hosts[1].provider_id
    part = cloud.world.ids.uuid()
    ask = cloud.placement._ask
    await ask("POST", "/resource_providers", {"uuid": part, "name": "gpu", "parent_provider_uuid": parent})
    await ask("PUT", "/resource_classes/CUSTOM_GPU")
    body = {"inventories": {"CUSTOM_GPU": {"total": 1}}, "resource_provider_generation": 0}
    await ask("PUT", f"/resource_providers/{part}/inventories", body)
    spec = cloud.wants(512, extra_specs={"resources1:CUSTOM_GPU": "1"})
    chosen, *others = await cloud.scheduler.select_destinations(spec)
    assert (chosen.host, others) == ("node2", [])
    assert await cloud.placement.allocations(spec.server_id) == {
        parent: {"VCPU": 1, "MEMORY_MB": 512},
        part: {"CUSTOM_GPU": 1},
    }
    plain = cloud.wants(512, extra_specs={"resources:CUSTOM_GPU": "1"})
    plain.resources["CUSTOM_GPU"] = 1
    assert "free" not in (await cloud.refusal(plain)).hint


async def test_refusals_ask_the_filters_of_one_host_alone(cloud: Cloud) -> None:
    cloud.hosts[0].cpu_info = {"arch": "x86_64"}
    spec = cloud.wants(99999, requested_host="node1", image_properties={"hw_architecture": "aarch64"})
    assert [one.filter for one in await cloud.scheduler.refusals(spec)] == ["ImagePropertiesFilter"]
    spec.image_properties = {}
    assert await cloud.scheduler.refusals(spec) == []
