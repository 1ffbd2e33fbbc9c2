"""Servers through the API's door: what users send, get, may and may not."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from kilonova.base.faults import unavailable
from kilonova.block_storage.contract import VolumeRef
from kilonova.compute.core import Limits
from kilonova.compute.service import POLICY, compute_app
from kilonova.policy.rules import Policy
from kilonova.sim.loop import run
from kilonova.sim.peers import IMAGE, NETWORK
from tests.api.support import OTHER_PROJECT, PROJECT, ApiClient, FakeAuthenticator
from tests.laws.servers import Door

BODY = {"name": "web", "flavorRef": "1", "imageRef": IMAGE, "networks": [{"uuid": NETWORK}]}
AT_2_1 = {
    "accessIPv4", "accessIPv6", "addresses", "created", "flavor", "hostId", "id", "image", "key_name", "links",
    "metadata", "name", "config_drive", "OS-DCF:diskConfig", "OS-EXT-AZ:availability_zone", "OS-EXT-STS:power_state",
    "OS-EXT-STS:task_state", "OS-EXT-STS:vm_state", "os-extended-volumes:volumes_attached", "OS-SRV-USG:launched_at",
    "OS-SRV-USG:terminated_at", "progress", "security_groups", "status", "tenant_id", "updated", "user_id",
}  # fmt: skip
OPERATOR = {"OS-EXT-SRV-ATTR:host", "OS-EXT-SRV-ATTR:hypervisor_hostname", "OS-EXT-SRV-ATTR:instance_name"}
ADDED = [
    ("2.3", set()), ("2.9", {"locked"}), ("2.19", {"description"}), ("2.26", {"tags"}), ("2.47", set()),
    ("2.63", {"trusted_image_certificates"}), ("2.71", {"server_groups"}), ("2.73", {"locked_reason"}),
    ("2.90", {"OS-EXT-SRV-ATTR:hostname"}), ("2.96", {"pinned_availability_zone"}), ("2.100", {"scheduler_hints"}),
]  # fmt: skip


def in_cloud(main: Callable[[Door], Awaitable[None]], *, hosts: int = 1) -> Door:
    """Run `main` with a cloud that is up."""
    door = Door(3, hosts=hosts)

    async def started() -> None:
        await door.cloud.start()
        await main(door)

    run(started(), 3)
    return door


def test_a_new_server_is_accepted_then_active_with_addresses() -> None:
    async def main(door: Door) -> None:
        reply = await door.client.send("POST", "/v2.1/servers", {"server": BODY})
        made = reply.json()["server"]
        assert reply.status == 202
        assert set(made) == {"id", "links", "adminPass", "OS-DCF:diskConfig", "security_groups"}
        assert reply.headers["location"].endswith(f"/v2.1/servers/{made['id']}")
        early = (await door.client.get(f"/v2.1/servers/{made['id']}"))["server"]
        assert (early["status"], early["OS-EXT-STS:task_state"]) == ("BUILD", "scheduling")
        await door.cloud.settle()
        shown = (await door.client.get(f"/v2.1/servers/{made['id']}"))["server"]
        assert shown["status"] == "ACTIVE" and shown["OS-EXT-STS:power_state"] == 1
        assert shown["addresses"]["private"][0]["OS-EXT-IPS:type"] == "fixed"
        assert shown["OS-SRV-USG:launched_at"] and shown["OS-EXT-STS:task_state"] is None

    in_cloud(main)


def test_fields_come_with_their_microversions() -> None:
    async def main(door: Door) -> None:
        server_id = await door.create()
        await door.cloud.settle()
        expected = set(AT_2_1)
        for version, more in ADDED:
            expected |= more
            shown = (await door.client.at(f"compute {version}").get(f"/v2.1/servers/{server_id}"))["server"]
            assert set(shown) == expected, version
        seen = (await door.client.as_("admin").at("compute 2.1").get(f"/v2.1/servers/{server_id}"))["server"]
        assert set(seen) == AT_2_1 | OPERATOR
        assert seen["OS-EXT-SRV-ATTR:host"] == "node1"
        latest = (await door.client.as_("admin").at("compute 2.104").get(f"/v2.1/servers/{server_id}"))["server"]
        assert latest["host_status"] == "UP" and latest["flavor"]["original_name"] == "m1.tiny"

    in_cloud(main)


BAD: list[tuple[str, dict[str, Any], int]] = [
    ("2.1", {"name": ""}, 400),
    ("2.1", {"name": " x"}, 400),
    ("2.1", {"name": "a" * 256}, 400),
    ("2.1", {"name": "a\u0000b"}, 400),
    ("2.1", {"flavorRef": "no-such"}, 400),
    ("2.1", {"imageRef": "11111111-2222-4333-8444-555555555555"}, 400),
    ("2.1", {"imageRef": ""}, 400),
    ("2.1", {"no_such_key": 1}, 400),
    ("2.1", {"description": "too early"}, 400),
    ("2.52", {"tags": ["a/b"]}, 400),
    ("2.57", {"personality": []}, 400),
    ("2.1", {"networks": "auto"}, 400),
    ("2.37", {"networks": None}, 400),
    ("2.37", {"networks": "any"}, 400),
    ("2.1", {"networks": [{"uuid": "11111111-2222-4333-8444-555555555555"}]}, 400),
    ("2.1", {"networks": [{"fixed_ip": "10.0.0.1"}]}, 400),
    ("2.1", {"networks": [{"uuid": NETWORK, "fixed_ip": "10.0.0.999"}]}, 400),
    ("2.1", {"key_name": "none"}, 400),
    ("2.1", {"security_groups": [{"name": "no-such"}]}, 400),
    ("2.1", {"availability_zone": "moon"}, 400),
    ("2.1", {"availability_zone": "nova:node1"}, 403),
    ("2.74", {"host": "node1"}, 403),
    ("2.1", {"metadata": {"k": "v" * 256}}, 400),
    ("2.1", {"metadata": {"": "v"}}, 400),
    ("2.1", {"user_data": "%%%"}, 400),
    ("2.1", {"user_data": base64.b64encode(b"x" * 60000).decode()}, 400),
    ("2.1", {"min_count": 3, "max_count": 2}, 400),
    ("2.1", {"min_count": 0}, 400),
    ("2.1", {"accessIPv4": "not an address"}, 400),
    ("2.1", {"accessIPv6": "10.0.0.1"}, 400),
    ("2.1", {"block_device_mapping": []}, 400),
    ("2.1", {"block_device_mapping_v2": [{"source_type": "tape", "boot_index": 1}]}, 400),
    ("2.1", {"block_device_mapping_v2": [{"source_type": "blank", "destination_type": "volume", "boot_index": -1}]},
     400),
    ("2.1", {"block_device_mapping_v2": [{"source_type": "image", "destination_type": "volume", "boot_index": 0,
                                          "uuid": IMAGE, "volume_size": 1}]}, 400),
    ("2.90", {"hostname": "-bad"}, 400),
]  # fmt: skip


def test_bad_requests_are_refused_before_anything_is_written() -> None:
    async def main(door: Door) -> None:
        for version, change, status in BAD:
            reply = await door.client.at(f"compute {version}").send("POST", "/v2.1/servers", {"server": BODY | change})
            assert reply.status == status, (version, change, reply.content)
            assert "message" in next(iter(reply.json().values()))
        assert door.cloud.servers() == []
        assert door.cloud.books.attachments == {}

    in_cloud(main)


def test_any_unicode_name_makes_a_host_name_the_guest_can_have() -> None:
    async def main(door: Door) -> None:
        for name, hostname in (("Émile & co", "emile--co"), ("web.1", "web-1"), ("日本", None)):
            server_id = await door.create(name)
            shown = (await door.client.get(f"/v2.1/servers/{server_id}"))["server"]
            assert shown["name"] == name
            assert shown["OS-EXT-SRV-ATTR:hostname"] == (hostname or f"server-{server_id}")

    in_cloud(main)


def test_roles_and_projects() -> None:
    async def main(door: Door) -> None:
        server_id = await door.create()
        path = f"/v2.1/servers/{server_id}"
        await door.client.as_("reader").post("/v2.1/servers", {"server": BODY}, 403)
        await door.client.as_("reader").get(path)
        await door.client.as_("reader").delete(path, 403)
        for method, target in (("GET", path), ("DELETE", path), ("PUT", path), ("GET", f"{path}/os-instance-actions")):
            body = {"server": {"name": "x"}} if method == "PUT" else None
            assert (await door.client.as_("other").send(method, target, body)).status == 404, target
        await door.client.as_("admin").get(path)
        await door.client.as_("").get(path, 401)
        assert (await door.client.as_("other").get("/v2.1/servers"))["servers"] == []
        await door.client.as_("other").get("/v2.1/servers?all_tenants=1", 403)
        assert len((await door.client.as_("admin").get("/v2.1/servers?all_tenants=1"))["servers"]) == 1
        assert (await door.client.as_("admin").get("/v2.1/servers"))["servers"] == []

    in_cloud(main)


def test_racing_requests_never_pass_the_quota() -> None:
    async def main(door: Door) -> None:
        door.cloud.catalogue.quota = Limits(instances=5, cores=100, ram=1 << 20)
        sent = [door.client.send("POST", "/v2.1/servers", {"server": BODY}) for _ in range(9)]
        replies = await asyncio.gather(*sent)
        assert sorted(reply.status for reply in replies) == [202] * 5 + [403] * 4
        refused = next(reply for reply in replies if reply.status == 403).json()
        assert "Quota exceeded for instances: Requested 1, but already used 5 of 5" in str(refused)
        await door.cloud.settle()

    door = in_cloud(main)
    assert len(door.cloud.servers()) == 5
    door.balance()


def test_several_at_once() -> None:
    async def main(door: Door) -> None:
        wanted = BODY | {"min_count": 2, "max_count": 3, "return_reservation_id": True}
        reservation = (await door.client.post("/v2.1/servers", {"server": wanted}, 202))["reservation_id"]
        await door.cloud.settle()
        query = f"/v2.1/servers?reservation_id={reservation}&sort_key=display_name&sort_dir=asc"
        found = (await door.client.get(query))["servers"]
        assert [one["name"] for one in found] == ["web-1", "web-2", "web-3"]

    in_cloud(main).balance()


def test_a_state_that_forbids_is_named_with_what_is_allowed() -> None:
    async def main(door: Door) -> None:
        server_id = await door.create()
        await door.cloud.settle()
        refused = (await door.act(server_id, "os-start", 409))["conflictingRequest"]["message"]
        assert f"Cannot 'start' instance {server_id} while it is in vm_state active" in refused
        assert "vm_state active. Allowed now:" in refused and "stop" in refused
        for later in ("migrate", "os-migrateLive", "evacuate", "shelve", "shelveOffload", "unshelve"):
            assert later.removeprefix("os-") not in refused
            assert "no such action" in str(await door.act(server_id, later, 400))  # once offered, it is named

    in_cloud(main)


def test_update_and_its_answer() -> None:
    async def main(door: Door) -> None:
        server_id = await door.create()
        path = f"/v2.1/servers/{server_id}"
        change = {"name": "db", "description": "mine", "accessIPv4": "10.9.8.7", "hostname": "db1"}
        shown = (await door.client.put(path, {"server": change}))["server"]
        assert (shown["name"], shown["description"], shown["accessIPv4"]) == ("db", "mine", "10.9.8.7")
        assert shown["OS-EXT-SRV-ATTR:hostname"] == "db1"
        old = await door.client.at("compute 2.1").put(path, {"server": {"name": "db2"}})
        assert "OS-EXT-STS:vm_state" not in old["server"] and old["server"]["name"] == "db2"
        await door.client.put(path, {"server": {}}, 400)
        await door.client.put(path, {"server": {"flavorRef": "2"}}, 400)

    in_cloud(main)


def test_boot_from_a_volume_holds_it_and_gives_it_back() -> None:
    mapping = {"source_type": "image", "uuid": IMAGE, "destination_type": "volume", "boot_index": 0,
               "volume_size": 5, "delete_on_termination": True}  # fmt: skip

    async def main(door: Door) -> None:
        server_id = await door.create(imageRef="", block_device_mapping_v2=[mapping])
        await door.cloud.settle()
        shown = (await door.client.get(f"/v2.1/servers/{server_id}"))["server"]
        assert shown["status"] == "ACTIVE" and shown["image"] == ""
        assert [one["delete_on_termination"] for one in shown["os-extended-volumes:volumes_attached"]] == [True]
        door.balance()
        await door.delete(server_id)
        await door.cloud.settle()

    door = in_cloud(main)
    assert door.cloud.books.volumes == {}
    door.balance()


def test_a_users_volume_is_deleted_with_the_server_only_if_asked() -> None:
    async def main(door: Door) -> None:
        for number, asked in enumerate((True, False)):
            volume_id = f"00000000-0000-4000-8000-00000000000{number}"
            door.cloud.books.volumes[volume_id] = VolumeRef(volume_id, "v", "available", 2, False, False, "nova")
            mapping = {"source_type": "volume", "uuid": volume_id, "destination_type": "volume", "boot_index": -1,
                       "delete_on_termination": asked}  # fmt: skip
            server_id = await door.create(block_device_mapping_v2=[mapping])
            await door.cloud.settle()
            shown = (await door.client.get(f"/v2.1/servers/{server_id}"))["server"]
            attached = shown["os-extended-volumes:volumes_attached"]
            assert attached == [{"id": volume_id, "delete_on_termination": asked}]
            await door.delete(server_id)
            await door.cloud.settle()
            assert (volume_id in door.cloud.books.volumes) is not asked

    in_cloud(main).balance()


def test_a_boot_volume_is_made_anew_on_the_next_host() -> None:
    mapping = {"source_type": "image", "uuid": IMAGE, "destination_type": "volume", "boot_index": 0,
               "volume_size": 5}  # fmt: skip

    async def main(door: Door) -> None:
        for host in door.cloud.hosts.values():
            host.machine.refuse("ensure_started", unavailable("No."), 1 if host.name == "node1" else 0)
        for number in range(4):
            server_id = await door.create(f"s{number}", imageRef="", block_device_mapping_v2=[mapping])
            await door.cloud.settle()
            assert door.state(server_id) == "active"

    door = in_cloud(main, hosts=2)
    assert len(door.cloud.books.volumes) == 4
    door.balance()


@pytest.mark.parametrize("verb", ["ensure_started", "ensure_image"])
def test_a_users_volume_survives_a_build_that_fails(verb: str) -> None:
    volume_id = "00000000-0000-4000-8000-0000000000cc"
    mapping = {"source_type": "volume", "uuid": volume_id, "destination_type": "volume", "boot_index": -1,
               "delete_on_termination": True}  # fmt: skip

    async def main(door: Door) -> None:
        door.cloud.books.volumes[volume_id] = VolumeRef(volume_id, "mine", "available", 2, False, False, "nova")
        for host in door.cloud.hosts.values():
            host.machine.refuse(verb, unavailable("No."), 9)
        server_id = await door.create(block_device_mapping_v2=[mapping])
        again = BODY | {"block_device_mapping_v2": [mapping]}
        await door.client.post("/v2.1/servers", {"server": again}, 400)
        await door.cloud.settle()
        assert door.state(server_id) == "error"

    door = in_cloud(main, hosts=2)
    assert door.cloud.books.volumes[volume_id].status == "available"
    door.balance()


def test_the_project_in_the_path_is_the_callers_own() -> None:
    async def main(door: Door) -> None:
        assert (await door.client.get(f"/v2.1/{PROJECT}/servers"))["servers"] == []
        assert b"Malformed request URL" in (await door.client.send("GET", f"/v2.1/{OTHER_PROJECT}/servers")).content
        await door.client.get(f"/v2.1/{OTHER_PROJECT}/servers", 400)

    in_cloud(main)


def test_a_request_sent_twice_makes_one_server() -> None:
    async def main(door: Door) -> None:
        body = {"name": "one", "flavorRef": "1", "imageRef": IMAGE, "networks": [{"uuid": NETWORK}]}

        async def send(client: ApiClient) -> dict[str, Any]:
            reply = await client.send("POST", "/v2.1/servers", {"server": body}, idempotency_key="once")
            assert reply.status == 202
            found: dict[str, Any] = reply.json()["server"]
            return found

        first = await send(door.client)
        assert await send(door.client) == first
        await door.cloud.settle()
        again = await send(door.client)
        assert (again["id"], "adminPass" in again) == (first["id"], False)
        assert (await send(door.client.as_("manager")))["id"] != first["id"], "a key is its user's"
        await door.cloud.settle()
        assert len((await door.client.get("/v2.1/servers"))["servers"]) == 2

    in_cloud(main)


def test_parts_of_a_request_have_rules_of_their_own() -> None:
    """An operator who forbids named networks and volumes to members forbids just these."""
    rules = {f"os_compute_api:servers:create:attach_{what}": "role:admin" for what in ("network", "volume")}

    async def main(door: Door) -> None:
        policy = Policy(POLICY)
        policy.override(rules)
        client = ApiClient(compute_app(door.cloud.api, FakeAuthenticator(), policy)).at("compute 2.90")
        body = {"name": "one", "flavorRef": "1", "imageRef": IMAGE}
        await client.post("/v2.1/servers", {"server": body | {"networks": [{"uuid": NETWORK}]}}, 403)
        mapping = [{"boot_index": 0, "uuid": IMAGE, "source_type": "image", "volume_size": 5}]
        volume = {"name": "v", "flavorRef": "1", "networks": "none", "block_device_mapping_v2": mapping}
        await client.post("/v2.1/servers", {"server": volume}, 403)
        await client.post("/v2.1/servers", {"server": body | {"networks": "none"}}, 202)
        await door.cloud.settle()

    in_cloud(main)
