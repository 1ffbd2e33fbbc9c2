"""Hosts as operators see them: services, hypervisors, zones; and what users may see of that."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from kilonova.compute.contract import HostReport
from kilonova.compute.host import service_store, store
from tests.api.compute.support import Api

OLD_SERVICE = {"id", "binary", "host", "zone", "status", "state", "updated_at", "disabled_reason"}
BRIEF = {"id", "hypervisor_hostname", "state", "status"}
FULL_288 = BRIEF | {"host_ip", "hypervisor_type", "hypervisor_version", "service", "uptime"}


async def report(api: Api, host: str, seconds_ago: float = 0.0) -> None:
    said = HostReport(
        host=host, node=f"{host}.lab", hypervisor_type="fake", hypervisor_version=1000, vcpus=4, memory_mb=8192,
        disk_gb=100, host_ip="192.0.2.7", cpu_info={"arch": "x86_64"}, vcpus_used=1, memory_mb_used=512,
    )  # fmt: skip
    world = api.compute.world
    moment = world.clock.now() - timedelta(seconds=seconds_ago)
    await api.compute.db.write(store.report, said, world.ids.uuid(), moment)


async def services(api: Api, version: str = "2.53", query: str = "") -> list[dict[str, Any]]:
    return list((await api.as_("admin", version).get(f"/v2.1/os-services{query}"))["services"])


async def test_services_are_up_while_they_report(api: Api) -> None:
    assert await services(api) == []
    await report(api, "alpha")
    await report(api, "beta", seconds_ago=3600)
    found = await services(api)
    assert [(one["host"], one["state"], one["status"], one["zone"]) for one in found] == [
        ("alpha", "up", "enabled", "nova"),
        ("beta", "down", "enabled", "nova"),
    ]
    assert set(found[0]) == OLD_SERVICE | {"forced_down"} and len(found[0]["id"]) == 36
    old = await services(api, "2.1")
    assert set(old[0]) == OLD_SERVICE and [one["id"] for one in old] == [1, 2]
    assert [one["host"] for one in await services(api, "2.1", "?host=beta")] == ["beta"]
    assert await services(api, "2.1", "?binary=nova-scheduler") == []


async def test_an_operator_takes_a_host_out_of_service_and_back(api: Api) -> None:
    await report(api, "alpha")
    id_ = (await services(api))[0]["id"]
    admin, url = api.as_("admin", "2.53"), f"/v2.1/os-services/{id_}"
    off = (await admin.put(url, {"status": "disabled", "disabled_reason": "new disk"}))["service"]
    assert (off["status"], off["disabled_reason"], off["state"]) == ("disabled", "new disk", "up")
    assert await api.compute.db.read(service_store.held_back) == ({"alpha": "new disk"}, set())
    zone = (await api.as_("member").get("/v2.1/os-availability-zone"))["availabilityZoneInfo"][0]
    assert zone == {"zoneName": "nova", "zoneState": {"available": False}, "hosts": None}
    on = (await admin.put(url, {"status": "enabled"}))["service"]
    assert (on["status"], on["disabled_reason"]) == ("enabled", None)
    down = (await admin.put(url, {"forced_down": "true"}))["service"]
    assert (down["state"], down["forced_down"]) == ("down", True)
    assert await api.compute.db.read(service_store.held_back) == ({}, {"alpha"})


@pytest.mark.parametrize(
    "wrong",
    [{}, {"status": "asleep"}, {"status": "enabled", "disabled_reason": "x"}, {"disabled_reason": "x"},
     {"status": "disabled", "disabled_reason": "x" * 256}, {"forced_down": "perhaps"}, {"colour": "red"}],
)  # fmt: skip
async def test_bad_updates_change_nothing(api: Api, wrong: dict[str, Any]) -> None:
    await report(api, "alpha")
    before = await services(api)
    await api.as_("admin", "2.53").put(f"/v2.1/os-services/{before[0]['id']}", wrong, 400)
    assert await services(api) == before


async def test_services_that_are_not_there(api: Api) -> None:
    admin = api.as_("admin", "2.53")
    await admin.put("/v2.1/os-services/not-a-uuid", {"status": "enabled"}, 400)
    await admin.put(f"/v2.1/os-services/{api.compute.world.ids.uuid()}", {"status": "enabled"}, 404)
    await api.as_("admin").put("/v2.1/os-services/enable", {"host": "nowhere", "binary": "nova-compute"}, 404)


async def test_the_forms_before_2_53(api: Api) -> None:
    await report(api, "alpha")
    admin, who = api.as_("admin", "2.11"), {"host": "alpha", "binary": "nova-compute"}
    await admin.put("/v2.1/os-services/disable", who)
    assert (await services(api))[0]["status"] == "disabled"
    await admin.put("/v2.1/os-services/disable-log-reason", {**who, "disabled_reason": "why"})
    assert (await services(api))[0]["disabled_reason"] == "why"
    await admin.put("/v2.1/os-services/enable", who)
    await admin.put("/v2.1/os-services/force-down", {**who, "forced_down": True})
    now = (await services(api))[0]
    assert (now["status"], now["state"]) == ("enabled", "down")


@pytest.mark.parametrize("version", ["2.1", "2.28", "2.33", "2.53", "2.88"])
async def test_hypervisors_at_each_version(api: Api, version: str) -> None:
    await report(api, "alpha")
    admin = api.as_("admin", version)
    brief = (await admin.get("/v2.1/os-hypervisors"))["hypervisors"][0]
    assert set(brief) == BRIEF and brief["hypervisor_hostname"] == "alpha.lab"
    full = (await admin.get("/v2.1/os-hypervisors/detail"))["hypervisors"][0]
    assert (await admin.get(f"/v2.1/os-hypervisors/{brief['id']}"))["hypervisor"] == full
    assert full["service"]["host"] == "alpha" and isinstance(full["id"], str if version >= "2.53" else int)
    if version == "2.88":
        assert set(full) == FULL_288
        await admin.get("/v2.1/os-hypervisors/statistics", 404)
        return
    assert (full["free_ram_mb"], full["vcpus"], full["vcpus_used"]) == (7680, 4, 1)
    assert full["cpu_info"] == ('{"arch":"x86_64"}' if version == "2.1" else {"arch": "x86_64"})
    sums = (await admin.get("/v2.1/os-hypervisors/statistics"))["hypervisor_statistics"]
    assert (sums["count"], sums["memory_mb"], sums["local_gb"]) == (1, 8192, 100) and len(sums) == 12


async def test_hypervisors_by_name_and_in_pages(api: Api) -> None:
    for host in ("alpha", "beta", "gamma"):
        await report(api, host)
    admin = api.as_("admin", "2.53")
    first = await admin.get("/v2.1/os-hypervisors?limit=2")
    href = first["hypervisors_links"][0]["href"]
    second = await admin.get(href[href.index("/v2.1") :])
    assert [one["hypervisor_hostname"] for one in second["hypervisors"]] == ["gamma.lab"]
    found = await admin.get("/v2.1/os-hypervisors?hypervisor_hostname_pattern=bet&with_servers=true")
    assert [one["hypervisor_hostname"] for one in found["hypervisors"]] == ["beta.lab"]
    await admin.get("/v2.1/os-hypervisors?hypervisor_hostname_pattern=nothing", 404)
    await admin.get("/v2.1/os-hypervisors?marker=nothing", 400)
    await admin.get("/v2.1/os-hypervisors/nothing", 400)
    old = api.as_("admin", "2.1")
    assert len((await old.get("/v2.1/os-hypervisors/alpha/search"))["hypervisors"]) == 1
    assert "servers" not in (await old.get("/v2.1/os-hypervisors/alpha/servers"))["hypervisors"][0]
    await old.get("/v2.1/os-hypervisors/99", 404)


async def test_zones(api: Api) -> None:
    await report(api, "alpha")
    info = (await api.as_("admin").get("/v2.1/os-availability-zone/detail"))["availabilityZoneInfo"]
    assert info[0]["hosts"]["alpha"]["nova-compute"]["available"] is True
    reader = (await api.as_("reader").get("/v2.1/os-availability-zone"))["availabilityZoneInfo"]
    assert reader == [{"zoneName": "nova", "zoneState": {"available": True}, "hosts": None}]


async def test_users_see_no_hosts(api: Api) -> None:
    await report(api, "alpha")
    for persona in ("manager", "member", "reader"):
        for path in ("os-services", "os-hypervisors", "os-hypervisors/detail", "os-hypervisors/statistics",
                     "os-hypervisors/1", "os-availability-zone/detail"):  # fmt: skip
            await api.as_(persona).get(f"/v2.1/{path}", 403)
        await api.as_(persona).put("/v2.1/os-services/enable", {"host": "alpha", "binary": "nova-compute"}, 403)


async def test_extensions(api: Api) -> None:
    listed = (await api.as_("member").get("/v2.1/extensions"))["extensions"]
    assert "os-keypairs" in {one["alias"] for one in listed}
    assert (await api.as_("member").get("/v2.1/extensions/os-keypairs"))["extension"] in listed
    await api.as_("member").get("/v2.1/extensions/os-cells", 404)
