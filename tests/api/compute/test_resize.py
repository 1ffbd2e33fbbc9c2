"""Resize, confirm and revert through the API's door: what users send, get, may and may not; what is held meanwhile."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kilonova.base.faults import no_capacity
from kilonova.block_storage.contract import VolumeRef
from kilonova.compute.contract import Flavor, Power
from kilonova.compute.core import Limits
from kilonova.compute.reconcile import confirm_old_resizes
from kilonova.compute.settings import ComputeSettings
from kilonova.sim import cloud as sim_cloud
from kilonova.sim.peers import IMAGE
from tests.api.compute.test_servers import in_cloud
from tests.laws.servers import Door

VOLUME = "00000000-0000-4000-8000-0000000000cc"


async def active(door: Door, flavor: str = "1", **more: Any) -> str:
    server_id = await door.create(flavorRef=flavor, **more)
    await door.cloud.settle()
    assert door.state(server_id) == "active"
    return server_id


async def act(door: Door, server_id: str, action: str, body: Any = None, status: int = 202) -> Any:
    answer = await door.client.post(f"/v2.1/servers/{server_id}/action", {action: body}, status)
    await door.cloud.settle()
    return answer


async def refused(door: Door, server_id: str, body: Any, status: int) -> str:
    reply = await door.client.send("POST", f"/v2.1/servers/{server_id}/action", {"resize": body})
    assert reply.status == status, reply.json()
    return str(next(iter(reply.json().values()))["message"])


async def shown(door: Door, server_id: str) -> dict[str, Any]:
    return dict((await door.client.get(f"/v2.1/servers/{server_id}"))["server"])


def memory(door: Door, server_id: str) -> int:
    return door.cloud.hosts["node1"].machine.guests[server_id].spec.memory_mb


def held(door: Door) -> list[int]:
    """MEMORY_MB of all claims, smallest first."""
    return sorted(part["MEMORY_MB"] for one in door.cloud.books.allocations.values() for part in one.values())


def test_a_resized_server_waits_for_its_user_who_confirms() -> None:
    async def main(door: Door) -> None:
        server_id = await active(door)
        before = await shown(door, server_id)
        await act(door, server_id, "resize", {"flavorRef": "2", "OS-DCF:diskConfig": "AUTO"})
        waiting = await shown(door, server_id)
        assert (waiting["status"], waiting["flavor"]["original_name"]) == ("VERIFY_RESIZE", "m1.small")
        assert waiting["addresses"] == before["addresses"] and waiting["OS-DCF:diskConfig"] == "AUTO"
        assert memory(door, server_id) == 2048 and held(door) == [512, 2048]
        door.balance()
        await act(door, server_id, "confirmResize", status=204)
        assert (await shown(door, server_id))["status"] == "ACTIVE" and held(door) == [2048]

    in_cloud(main).balance()


def test_a_revert_brings_back_the_old_flavor_disks_and_claim() -> None:
    async def main(door: Door) -> None:
        server_id = await active(door)
        machine = door.cloud.hosts["node1"].machine
        used = machine.disk_gb_used
        await act(door, server_id, "resize", {"flavorRef": "2"})
        assert machine.disk_gb_used == used + 20
        await act(door, server_id, "revertResize")
        now = await shown(door, server_id)
        assert (now["status"], now["flavor"]["original_name"]) == ("ACTIVE", "m1.tiny")
        assert memory(door, server_id) == 512 and held(door) == [512] and machine.disk_gb_used == used

    in_cloud(main).balance()


@pytest.mark.parametrize("word", ["confirmResize", "revertResize"])
def test_a_stopped_server_stays_stopped(word: str) -> None:
    async def main(door: Door) -> None:
        server_id = await active(door)
        await act(door, server_id, "os-stop")
        await act(door, server_id, "resize", {"flavorRef": "2"})
        waiting = await shown(door, server_id)
        assert (waiting["status"], waiting["OS-EXT-STS:power_state"]) == ("VERIFY_RESIZE", 4)
        await act(door, server_id, word, status=204 if word == "confirmResize" else 202)
        assert (await shown(door, server_id))["status"] == "SHUTOFF"
        await act(door, server_id, "os-start")
        assert memory(door, server_id) == (2048 if word == "confirmResize" else 512)

    in_cloud(main).balance()


def test_what_cannot_be_is_refused_before_anything_is_written() -> None:
    async def main(door: Door) -> None:
        server_id = await active(door, "2")
        assert "must change flavor" in await refused(door, server_id, {"flavorRef": "2"}, 400)
        assert "Unable to resize disk down" in await refused(door, server_id, {"flavorRef": "1"}, 400)
        assert "could not be found" in await refused(door, server_id, {"flavorRef": "nothing"}, 400)
        for body in (
            {},
            {"flavorRef": ""},
            {"flavorRef": "3", "more": 1},
            None,
            {"flavorRef": "3", "OS-DCF:diskConfig": "x"},
        ):
            await refused(door, server_id, body, 400)
        for action in ("confirmResize", "revertResize"):
            reply = await door.client.send("POST", f"/v2.1/servers/{server_id}/action", {action: None})
            assert reply.status == 409 and "vm_state active" in str(reply.json())
        stranger = door.client.as_("other")
        reply = await stranger.send("POST", f"/v2.1/servers/{server_id}/action", {"resize": {"flavorRef": "3"}})
        assert reply.status == 404
        reader = door.client.as_("reader")
        reply = await reader.send("POST", f"/v2.1/servers/{server_id}/action", {"resize": {"flavorRef": "3"}})
        assert reply.status == 403
        assert (await shown(door, server_id))["OS-EXT-STS:task_state"] is None

    in_cloud(main).balance()


def test_the_flavor_has_a_disk_and_what_the_image_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sim_cloud.FLAVORS, "zero", Flavor("zero", "zero", 1, 512, 0))
    monkeypatch.setitem(sim_cloud.FLAVORS, "thin", Flavor("thin", "thin", 1, 64, 20))
    monkeypatch.setitem(sim_cloud.FLAVORS, "eph", Flavor("eph", "eph", 1, 512, 1, ephemeral_gb=5))

    async def main(door: Door) -> None:
        server_id = await active(door)
        assert "zero disk" in await refused(door, server_id, {"flavorRef": "zero"}, 400)
        images = door.cloud.books.images
        images[IMAGE] = msgspec.structs.replace(images[IMAGE], min_ram_mb=128)
        assert "memory is too small" in await refused(door, server_id, {"flavorRef": "thin"}, 400)
        other = await active(door, "eph")
        assert "ephemeral" in await refused(door, other, {"flavorRef": "2"}, 400)
        del images[IMAGE]
        await act(door, server_id, "resize", {"flavorRef": "thin"})
        assert door.state(server_id) == "resized"

    in_cloud(main).balance()


def test_quota_counts_what_is_more_and_the_larger_while_it_waits() -> None:
    async def main(door: Door) -> None:
        server_id = await active(door, "2")
        door.cloud.catalogue.quota = Limits(10, 2, 4095)
        assert "Quota exceeded for ram" in await refused(door, server_id, {"flavorRef": "3"}, 403)
        door.cloud.catalogue.quota = Limits(10, 1, 4096)
        assert "Quota exceeded for cores" in await refused(door, server_id, {"flavorRef": "3"}, 403)
        door.cloud.catalogue.quota = Limits(10, 2, 4096)
        await act(door, server_id, "resize", {"flavorRef": "3"})
        assert (door.state_of(server_id).vcpus, door.state_of(server_id).memory_mb) == (2, 4096)
        await act(door, server_id, "revertResize")
        assert (door.state_of(server_id).vcpus, door.state_of(server_id).memory_mb) == (1, 2048)

    in_cloud(main).balance()


def test_without_room_the_server_goes_on_as_it_was() -> None:
    async def main(door: Door) -> None:
        server_id = await active(door)
        machine = door.cloud.hosts["node1"].machine
        machine.refuse("resize_disks", no_capacity("The host's disk is full."), 1)
        await act(door, server_id, "resize", {"flavorRef": "2"})
        now = await shown(door, server_id)
        assert (now["status"], now["flavor"]["original_name"]) == ("ACTIVE", "m1.tiny")
        assert memory(door, server_id) == 512 and held(door) == [512]
        actions = (await door.client.get(f"/v2.1/servers/{server_id}/os-instance-actions"))["instanceActions"]
        assert [(one["action"], one["message"]) for one in actions] == [("resize", "Error"), ("create", None)]
        failed = (await door.client.as_("admin").get("/v2.1/os-migrations"))["migrations"]
        assert [one["status"] for one in failed] == ["error"]

    in_cloud(main).balance()


def test_a_full_host_takes_no_larger_server_and_says_so() -> None:
    async def main(door: Door) -> None:
        server_id = await active(door)
        provider = next(iter(door.cloud.books.providers))
        door.cloud.books.allocations["full"] = {provider: {"MEMORY_MB": (256 << 10) - 600}}
        await act(door, server_id, "resize", {"flavorRef": "2"})
        assert door.state(server_id) == "active"
        assert held(door) == [512]

    in_cloud(main).balance()


@pytest.mark.parametrize("pause_seconds", [0.0, 0.3, 0.6, 1.0, 1.5, 2.2, 3.0, 20.0])
@pytest.mark.parametrize("word", ["", "confirmResize", "revertResize"])
def test_a_delete_at_any_moment_wins_and_leaves_nothing(word: str, pause_seconds: float) -> None:
    async def main(door: Door) -> None:
        server_id = await active(door)
        machine = door.cloud.hosts["node1"].machine
        machine.verb_seconds = 0.2
        path = f"/v2.1/servers/{server_id}/action"
        await door.client.post(path, {"resize": {"flavorRef": "2"}}, 202)
        if word:
            await door.cloud.settle()
            await door.client.send("POST", path, {word: None})
        await door.cloud.api_world.clock.sleep(pause_seconds)
        await door.delete(server_id)
        await door.cloud.settle()
        assert door.state(server_id) == "deleted"
        assert (held(door), machine.guests, machine.disks, machine.kept_disks) == ([], {}, {}, {})
        assert machine.disk_gb_used == 0

    in_cloud(main).balance()


def test_a_volume_backed_server_is_resized_and_keeps_its_volume() -> None:
    async def main(door: Door) -> None:
        door.cloud.books.volumes[VOLUME] = VolumeRef(VOLUME, "root", "available", 5, True, False, "nova")
        root = {"boot_index": 0, "uuid": VOLUME, "source_type": "volume", "destination_type": "volume"}
        server_id = await active(door, "2", imageRef="", block_device_mapping_v2=[root])
        await act(door, server_id, "resize", {"flavorRef": "1"})  # its root disk is the volume: nothing shrinks
        assert memory(door, server_id) == 512
        assert door.cloud.books.volumes[VOLUME].status == "in-use"
        await act(door, server_id, "confirmResize", status=204)

    in_cloud(main).balance()


def test_an_operator_may_have_old_resizes_confirmed() -> None:
    async def main(door: Door) -> None:
        server_id = await active(door)
        await act(door, server_id, "resize", {"flavorRef": "2"})
        assert await confirm_old_resizes.run(door.cloud.api) == 0
        door.cloud.api.settings = ComputeSettings(resize_confirm_seconds=60.0)
        assert await confirm_old_resizes.run(door.cloud.api) == 0
        await door.cloud.api_world.clock.sleep(61)
        assert await confirm_old_resizes.run(door.cloud.api) == 1
        await door.cloud.settle()
        assert door.state(server_id) == "active" and held(door) == [2048]
        assert await confirm_old_resizes.run(door.cloud.api) == 0

    in_cloud(main).balance()


def test_a_confirmed_server_whose_guest_is_off_is_stopped() -> None:
    async def main(door: Door) -> None:
        server_id = await active(door)
        await act(door, server_id, "resize", {"flavorRef": "2"})
        door.cloud.hosts["node1"].machine.set_power(door.cloud.hosts["node1"].machine.guests[server_id], Power.SHUTDOWN)
        await door.cloud.api_world.clock.sleep(5)
        await act(door, server_id, "confirmResize", status=204)
        assert door.state(server_id) == "stopped"

    in_cloud(main).balance()


def test_operators_list_migrations_with_filters_and_pages() -> None:
    async def main(door: Door) -> None:
        first, second = await active(door), await active(door)
        await act(door, first, "resize", {"flavorRef": "2"})
        await act(door, first, "revertResize")
        await act(door, second, "resize", {"flavorRef": "2"})
        admin = door.client.as_("admin")
        assert (await door.client.send("GET", "/v2.1/os-migrations")).status == 403

        async def listed(query: str = "", version: str = "2.80") -> list[dict[str, Any]]:
            return list((await admin.at(f"compute {version}").get(f"/v2.1/os-migrations{query}"))["migrations"])

        every = await listed()
        assert [one["status"] for one in every] == ["finished", "reverted"]
        assert set(every[0]) == {
            "created_at", "dest_compute", "dest_host", "dest_node", "id", "instance_uuid", "new_instance_type_id",
            "old_instance_type_id", "source_compute", "source_node", "status", "migration_type", "updated_at", "uuid",
            "user_id", "project_id"}  # fmt: skip
        assert (every[0]["old_instance_type_id"], every[0]["new_instance_type_id"]) == (1, 2)
        assert set(every[0]) - set((await listed(version="2.1"))[0]) == {
            "migration_type", "uuid", "user_id", "project_id"}  # fmt: skip
        for query, wanted in (
            ("?status=finished", [second]), (f"?instance_uuid={first}", [first]), ("?host=nowhere", []),
            ("?host=node1", [second, first]), ("?migration_type=live-migration", []), ("?limit=1", [second]),
            (f"?limit=1&marker={every[0]['uuid']}", [first]), ("?changes-since=2999-01-01", []),
            (f"?user_id={every[0]['user_id']}", [second, first]), ("?project_id=other", []),
        ):  # fmt: skip
            assert [one["instance_uuid"] for one in await listed(query)] == wanted, query
        page = await admin.at("compute 2.80").get("/v2.1/os-migrations?limit=1")
        assert page["migrations_links"][0]["href"].endswith(f"limit=1&marker={every[0]['uuid']}")
        for query in (
            "?marker=nothing",
            "?changes-since=then",
            "?other=1",
            "?changes-since=2999-01-01&changes-before=2000-01-01",
        ):
            reply = await admin.at("compute 2.80").send("GET", f"/v2.1/os-migrations{query}")
            assert reply.status == 400, query
        await door.delete(second)
        await door.cloud.settle()
        assert [one["status"] for one in await listed()] == ["confirmed", "reverted"]

    in_cloud(main).balance()
