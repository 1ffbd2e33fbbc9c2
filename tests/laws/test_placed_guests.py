"""Guests with CPUs and devices of their own, on the whole simulated cloud: asked, claimed, given, moved, given back."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.compute.contract import NumaCell, Pages, PciDevice, Placed
from kilonova.compute.contract.pci import HostPart, PciMatch, PciSettings
from kilonova.placement.schema import inventory
from kilonova.sim.loop import run
from tests.laws.whole import Whole, mixed_work

CELLS = (
    NumaCell(0, (0, 1, 2, 3), memory_mb=8192, pages=(Pages(2048, 1024),)),
    NumaCell(1, (4, 5, 6, 7), memory_mb=8192, pages=(Pages(2048, 1024),)),
)
PART = HostPart(
    cpu_dedicated_set="2-3,6-7", pci=PciSettings((PciMatch("10de"),), (PciMatch(vendor_id="10de", name="gpu"),))
)
PINNED = {"hw:cpu_policy": "dedicated"}


def cloud(seed: int, *, faulty: bool = False) -> Whole:
    """Two hosts, each with four CPUs to give away and one PCI device."""
    whole = Whole(seed, faulty=faulty)
    for host in whole.cloud.hosts.values():
        host.part = PART
        host.machine.cells = CELLS
        host.machine.pci_devices = (PciDevice("0000:81:00.0", "10de", "1eb8", 1),)
    return whole


async def specs(whole: Whole, flavor: str, **more: str) -> None:
    client = whole.cloud.client(whole.cloud.user, "compute")
    path = f"/v2.1/flavors/{flavor}/os-extra_specs"
    await client.request("POST", path, token="admin", json={"extra_specs": more})


async def started(whole: Whole, **more: str) -> None:
    """The cloud is up, its hosts have reported, and both flavors ask for this."""
    await whole.cloud.start_all()
    await whole.sleep(15)
    for flavor in ("1", "2"):
        await specs(whole, flavor, **more)


async def built(whole: Whole, count: int = 1) -> list[dict[str, Any]]:
    ids = [await whole.create_server() for _ in range(count)]
    await whole.sleep(40)
    return [(await whole.ask("compute", "GET", f"/v2.1/servers/{id_}"))["server"] for id_ in ids]


def given(whole: Whole) -> dict[str, Placed]:
    """What each defined guest has for itself, by server."""
    return {id_: guest.spec.placed for host in whole.cloud.hosts.values() for id_, guest in host.machine.guests.items()}


def per_host(whole: Whole) -> list[list[int]]:
    return [
        sorted(cpu for guest in host.machine.guests.values() for cpu in guest.spec.placed.pinned)
        for host in whole.cloud.hosts.values()
    ]


def used(connection: Connection) -> dict[str, int]:
    i = inventory.c
    rows = connection.execute(sa.select(i.resource_class, sa.func.sum(i.used)).group_by(i.resource_class))
    return {row[0]: int(row[1]) for row in rows}


async def books(whole: Whole) -> dict[str, int]:
    return await whole.cloud.databases["placement"].read(used)


def in_cloud(main: Coroutine[Any, Any, None], seed: int = 1) -> None:
    run(main, seed)


def test_every_guest_has_cpus_of_its_own_and_no_more_than_there_are() -> None:
    whole = cloud(1)

    async def main() -> None:
        await started(whole, **PINNED)
        servers = await built(whole, 9)
        assert sorted(one["status"] for one in servers) == ["ACTIVE"] * 8 + ["ERROR"]
        assert per_host(whole) == [[2, 3, 6, 7], [2, 3, 6, 7]]
        assert (await books(whole))["PCPU"] == 8 and (await books(whole))["VCPU"] == 0
        refused = next(one for one in servers if one["status"] == "ERROR")
        assert "needs 1 dedicated CPUs, the largest free is 0 dedicated CPUs" in refused["fault"]["message"]
        for one in servers:
            await whole.delete_server(one["id"])
        await whole.settle()
        assert (await books(whole))["PCPU"] == 0
        await whole.sleep(2)
        assert {one["status"] for one in await built(whole, 8)} == {"ACTIVE"}, "all of it was given back"

    in_cloud(main())


@pytest.mark.parametrize("decided", ["confirmResize", "revertResize"])
def test_a_resize_has_both_until_it_is_decided(decided: str) -> None:
    whole = cloud(2)

    async def main() -> None:
        await started(whole, **PINNED)
        (server,) = await built(whole)
        old = given(whole)[server["id"]].pinned
        await whole.act(server["id"], "resize", {"flavorRef": "2"})
        await whole.sleep(40)
        assert (await books(whole))["PCPU"] == 2
        new = given(whole)[server["id"]].pinned
        assert len(new) == 1 and not new & old
        await whole.act(server["id"], decided)
        await whole.sleep(40)
        assert given(whole)[server["id"]].pinned == (new if decided == "confirmResize" else old)
        assert (await books(whole))["PCPU"] == 1
        others = await built(whole, 7)
        assert {one["status"] for one in others} == {"ACTIVE"}, "the other size's CPU is free"
        assert per_host(whole) == [[2, 3, 6, 7], [2, 3, 6, 7]]

    in_cloud(main())


def test_devices_and_pages_are_found_on_the_next_host_and_run_out() -> None:
    whole = cloud(3)

    async def main() -> None:
        await started(whole, **{"pci_passthrough:alias": "gpu:1", "hw:mem_page_size": "2MB"})
        servers = await built(whole, 3)
        assert sorted(one["status"] for one in servers) == ["ACTIVE", "ACTIVE", "ERROR"]
        placed = [one for one in given(whole).values() if one.devices]
        assert [one.devices for one in placed] == [("0000:81:00.0",)] * 2
        assert {cell.page_kib for one in placed for cell in one.cells} == {2048}
        (gone,) = [one for one in servers if one["status"] == "ACTIVE"][:1]
        await whole.act(gone["id"], "forceDelete")
        await whole.sleep(30)
        assert [one["status"] for one in await built(whole)] == ["ACTIVE"]

    in_cloud(main())


def test_what_cannot_be_is_refused_at_the_door() -> None:
    whole = cloud(4)

    async def main() -> None:
        await started(whole, **{"hw:numa_nodes": "3"})
        assert await whole.create_server() == ""
        assert "cannot be divided evenly among 3 NUMA nodes" in whole.history[-1]

    in_cloud(main())


def test_whatever_crashes_nobody_shares_and_nothing_is_left_taken() -> None:
    for seed in range(4):
        whole = cloud(seed, faulty=True)

        async def main(whole: Whole = whole) -> None:
            await started(whole, **PINNED)
            await mixed_work(whole, 8)
            for host in whole.cloud.hosts.values():
                pinned = [cpu for guest in host.machine.guests.values() for cpu in guest.spec.placed.pinned]
                assert len(pinned) == len(set(pinned)), whole.history
            for id_ in whole.servers:
                await whole.delete_server(id_)
            await whole.sleep(120)
            await whole.settle()
            assert (await books(whole))["PCPU"] == 0
            for host in whole.cloud.hosts.values():
                assert await host.ledger.read(_rows) == [], whole.history

        run(main(), seed)


def _rows(connection: Connection) -> list[Any]:
    return [tuple(row) for row in connection.execute(sa.text("SELECT server_id, kept FROM placed"))]
