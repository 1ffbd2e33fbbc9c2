"""The daily verbs through the API's door: reboot, pause, suspend, password, diagnostics, soft delete, state by hand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from kilonova.compute.contract import Power
from kilonova.compute.core import Limits
from kilonova.compute.metadata import metadata_app
from kilonova.compute.reconcile import reclaim
from kilonova.node.vswitch.metadata_proxy import sign
from kilonova.sim.loop import run
from tests.api.support import ApiClient
from tests.laws.servers import HARD, SOFT, Door


def on_a_server(main: Callable[[Door, str], Awaitable[None]], **settings: Any) -> None:
    """Run `main` with a cloud that is up and one active server in it."""
    door = Door(3, hosts=1)
    door.cloud.settings = replace(door.cloud.settings, **settings)
    door.cloud.api.settings = door.cloud.settings

    async def started() -> None:
        await door.cloud.start()
        server_id = await door.create()
        await door.cloud.settle()
        await main(door, server_id)

    run(started(), 3)
    door.balance()


async def shown(door: Door, server_id: str, who: str = "member") -> dict[str, Any]:
    """The server as a persona sees it."""
    answer = await door.client.as_(who).get(f"/v2.1/servers/{server_id}")
    return dict(answer["server"])


def guest_of(door: Door, server_id: str) -> Any:
    return door.cloud.hosts["node1"].machine.guest(server_id)


# ── reboot


@pytest.mark.parametrize(("how", "word"), [(SOFT, "REBOOT"), (HARD, "HARD_REBOOT"), ({"type": "soft"}, "REBOOT")])
def test_a_reboot_boots_the_guest_once_more(how: dict[str, str], word: str) -> None:
    async def main(door: Door, server_id: str) -> None:
        await door.act(server_id, "reboot", body=how)
        assert (await shown(door, server_id))["status"] == word
        await door.cloud.settle()
        assert (await shown(door, server_id))["status"] == "ACTIVE"
        assert guest_of(door, server_id).boots == 2

    on_a_server(main)


def test_a_guest_that_does_not_listen_is_cut_off_after_the_grace() -> None:
    async def main(door: Door, server_id: str) -> None:
        guest_of(door, server_id).obeys_acpi = False
        began = door.cloud.api_world.clock.monotonic()
        await door.act(server_id, "reboot", body=SOFT)
        await door.cloud.settle()
        assert guest_of(door, server_id).boots == 2
        assert 120 <= door.cloud.api_world.clock.monotonic() - began < 130

    on_a_server(main)


def test_a_hard_reboot_does_not_wait_for_a_soft_one() -> None:
    async def main(door: Door, server_id: str) -> None:
        guest_of(door, server_id).obeys_acpi = False
        await door.act(server_id, "reboot", body=SOFT)
        await door.cloud.api_world.clock.sleep(5)
        await door.act(server_id, "reboot", 409, body=SOFT)
        began = door.cloud.api_world.clock.monotonic()
        await door.act(server_id, "reboot", body=HARD)
        await door.cloud.settle()
        assert door.cloud.api_world.clock.monotonic() - began < 10
        assert (await shown(door, server_id))["status"] == "ACTIVE"
        await door.cloud.api_world.clock.sleep(200)  # nobody cuts the new guest's power for the old reboot
        assert guest_of(door, server_id).power is Power.RUNNING and guest_of(door, server_id).boots == 2

    on_a_server(main)


@pytest.mark.parametrize("body", [{"type": "WARM"}, {"type": "SOFT HARD"}, {}, {"type": "SOFT", "x": 1}, None, "SOFT"])
def test_a_reboot_of_no_kind_is_refused(body: Any) -> None:
    async def main(door: Door, server_id: str) -> None:
        await door.act(server_id, "reboot", 400, body=body)

    on_a_server(main)


def test_a_hard_reboot_brings_back_a_guest_that_vanished_and_a_server_in_error() -> None:
    async def main(door: Door, server_id: str) -> None:
        del door.cloud.hosts["node1"].machine.guests[server_id]
        await door.client.as_("admin").post(
            f"/v2.1/servers/{server_id}/action", {"os-resetState": {"state": "error"}}, 202
        )
        await door.act(server_id, "reboot", 409, body=SOFT)
        await door.act(server_id, "reboot", body=HARD)
        await door.cloud.settle()
        assert (await shown(door, server_id))["status"] == "ACTIVE"

    on_a_server(main)


# ── pause and suspend


@pytest.mark.parametrize(
    ("off", "on", "status", "power"), [("pause", "unpause", "PAUSED", 3), ("suspend", "resume", "SUSPENDED", 4)]
)
def test_a_guest_stands_still_and_runs_on(off: str, on: str, status: str, power: int) -> None:
    async def main(door: Door, server_id: str) -> None:
        await door.act(server_id, on, 409)
        await door.act(server_id, off)
        await door.cloud.settle()
        seen = await shown(door, server_id)
        assert (seen["status"], seen["OS-EXT-STS:power_state"]) == (status, power)
        refused = await door.act(server_id, off, 409)
        assert seen["OS-EXT-STS:vm_state"] in refused["conflictingRequest"]["message"]
        await door.act(server_id, on)
        await door.cloud.settle()
        assert (await shown(door, server_id))["status"] == "ACTIVE"
        assert guest_of(door, server_id).boots == 1  # it ran on: nothing booted

    on_a_server(main)


def test_a_reader_may_not_and_another_project_sees_nothing() -> None:
    async def main(door: Door, server_id: str) -> None:
        path = f"/v2.1/servers/{server_id}/action"
        for action in ({"pause": None}, {"suspend": None}, {"reboot": SOFT}, {"changePassword": {"adminPass": "x"}}):
            await door.client.as_("reader").post(path, action, 403)
            await door.client.as_("other").post(path, action, 404)
        await door.act(server_id, "os-resetState", 403, body={"state": "active"})

    on_a_server(main)


# ── inside the guest


def test_the_guests_agent_sets_the_password_and_a_guest_without_one_says_so() -> None:
    async def main(door: Door, server_id: str) -> None:
        await door.act(server_id, "changePassword", body={"adminPass": "n3w p@ss"})
        await door.cloud.settle()
        assert door.cloud.hosts["node1"].machine.passwords[server_id] == "n3w p@ss"
        log = await door.client.get(f"/v2.1/servers/{server_id}/os-instance-actions")
        assert log["instanceActions"][0]["action"] == "changePassword" and "n3w" not in str(log)
        guest_of(door, server_id).has_agent = False
        refused = await door.act(server_id, "changePassword", 409, body={"adminPass": "x"})
        assert "guest agent" in refused["conflictingRequest"]["message"]
        await door.act(server_id, "changePassword", 400, body={"adminPass": 5})
        await door.act(server_id, "changePassword", 400, body={})

    on_a_server(main)


def test_a_guest_posts_its_password_once_and_its_owner_reads_and_clears_it() -> None:
    async def main(door: Door, server_id: str) -> None:
        path, posted = f"/v2.1/servers/{server_id}/os-server-password", "/openstack/latest/password"
        signed = {"x-instance-id": server_id, "x-instance-id-signature": sign("secret", server_id)}
        guest = ApiClient(metadata_app(door.cloud.api), "", signed)
        assert await door.client.get(path) == {"password": ""}
        assert (await guest.send("POST", posted, b"xlozO3w==")).status == 200
        assert (await guest.send("POST", posted, b"another")).status == 409
        assert await door.client.get(path) == {"password": "xlozO3w=="}
        assert (await guest.send("GET", posted)).content == b"xlozO3w=="
        assert (await guest.send("POST", posted, b"x" * 2000)).status == 413
        await door.client.as_("other").get(path, 404)
        await door.client.as_("reader").delete(path, 403)
        await door.client.delete(path, 204)
        assert await door.client.get(path) == {"password": ""}

    on_a_server(main, metadata_secret="secret")


def test_diagnostics_are_for_operators_and_of_running_guests() -> None:
    async def main(door: Door, server_id: str) -> None:
        path = f"/v2.1/servers/{server_id}/diagnostics"
        await door.client.get(path, 403)
        told = await door.client.as_("admin").at("compute 2.48").get(path)
        assert set(told) == {
            "config_drive", "cpu_details", "disk_details", "driver", "hypervisor", "hypervisor_os", "memory_details",
            "nic_details", "num_cpus", "num_disks", "num_nics", "state", "uptime",
        }  # fmt: skip
        assert (told["state"], told["num_cpus"], told["num_nics"]) == ("running", 1, 1)
        assert told["memory_details"]["maximum"] == 512
        old = await door.client.as_("admin").at("compute 2.47").get(path)
        assert {"cpu0_time", "memory", "vda_read", "vda_write_req"} <= set(old)
        await door.act(server_id, "os-stop")
        await door.cloud.settle()
        await door.client.as_("admin").get(path, 409)

    on_a_server(main)


def test_a_crash_dump_interrupts_the_guest() -> None:
    async def main(door: Door, server_id: str) -> None:
        path = f"/v2.1/servers/{server_id}/action"
        await door.client.at("compute 2.16").post(path, {"trigger_crash_dump": None}, 400)
        await door.act(server_id, "trigger_crash_dump")
        assert guest_of(door, server_id).interrupts == 1
        await door.act(server_id, "os-stop")
        await door.cloud.settle()
        await door.act(server_id, "trigger_crash_dump", 409)

    on_a_server(main)


# ── soft delete


def test_a_soft_deleted_server_is_out_of_sight_and_can_be_restored() -> None:
    async def main(door: Door, server_id: str) -> None:
        await door.delete(server_id)
        await door.cloud.settle()
        assert (await shown(door, server_id))["status"] == "SOFT_DELETED"
        assert (await door.client.get("/v2.1/servers"))["servers"] == []
        admin = door.client.as_("admin")
        listed = await admin.get("/v2.1/servers?all_tenants=1&status=SOFT_DELETED")
        assert [one["id"] for one in listed["servers"]] == [server_id]
        assert guest_of(door, server_id).power is Power.SHUTDOWN
        await door.delete(server_id)  # again: nothing more
        await door.act(server_id, "os-start", 409)
        limits = await door.client.get("/v2.1/limits")
        assert limits["limits"]["absolute"]["totalInstancesUsed"] == 0
        await door.act(server_id, "restore")
        await door.cloud.settle()
        assert (await shown(door, server_id))["status"] == "ACTIVE"
        assert guest_of(door, server_id).power is Power.RUNNING

    on_a_server(main, reclaim_instance_interval_seconds=600.0)


def test_a_restore_needs_room_in_the_quota() -> None:
    async def main(door: Door, server_id: str) -> None:
        await door.delete(server_id)
        await door.cloud.settle()
        await door.create("taker")
        await door.cloud.settle()
        door.cloud.catalogue.quota = Limits(instances=1)
        await door.act(server_id, "restore", 403)
        assert (await shown(door, server_id))["status"] == "SOFT_DELETED"

    on_a_server(main, reclaim_instance_interval_seconds=600.0)


def test_the_interval_ends_and_force_delete_does_not_wait_for_it() -> None:
    async def main(door: Door, server_id: str) -> None:
        other = await door.create("other")
        await door.cloud.settle()
        for one in (server_id, other):
            await door.delete(one)
        await door.cloud.settle()
        await door.act(other, "forceDelete")
        await door.cloud.settle()
        assert door.state(other) == "deleted"
        assert await reclaim.run(door.cloud.api) == 0
        await door.cloud.api_world.clock.sleep(601)
        assert await reclaim.run(door.cloud.api) == 1
        await door.cloud.settle()
        assert door.state(server_id) == "deleted" and door.cloud.guests() == {}

    on_a_server(main, reclaim_instance_interval_seconds=600.0)


# ── by hand


def test_an_operator_resets_the_state_and_cancels_what_runs() -> None:
    async def main(door: Door, server_id: str) -> None:
        guest_of(door, server_id).obeys_acpi = False
        await door.act(server_id, "reboot", body=SOFT)
        await door.cloud.api_world.clock.sleep(5)
        admin, path = door.client.as_("admin"), f"/v2.1/servers/{server_id}/action"
        await admin.post(path, {"os-resetState": {"state": "paused"}}, 400)
        await admin.post(path, {"os-resetState": {"state": "error"}}, 202)
        seen = await shown(door, server_id)
        assert (seen["status"], seen["OS-EXT-STS:task_state"]) == ("ERROR", None)
        await door.cloud.settle()
        await admin.post(path, {"os-resetState": {"state": "active"}}, 202)
        await door.cloud.api_world.clock.sleep(200)
        assert guest_of(door, server_id).boots == 1 and (await shown(door, server_id))["status"] == "ACTIVE"
        log = await door.client.get(f"/v2.1/servers/{server_id}/os-instance-actions")
        assert [one["action"] for one in log["instanceActions"]][:2] == ["os-resetState", "os-resetState"]

    on_a_server(main)


def test_the_older_network_actions_can_be_switched_off() -> None:
    async def main(door: Door, server_id: str) -> None:
        path = f"/v2.1/servers/{server_id}/action"
        for action in ("resetNetwork", "injectNetworkInfo"):
            await door.client.post(path, {action: None}, 403)
            await door.client.as_("admin").post(path, {action: None}, 202)
        door.cloud.api.settings = replace(door.cloud.settings, legacy_actions=False)
        await door.client.as_("admin").post(path, {"resetNetwork": None}, 400)

    on_a_server(main)
