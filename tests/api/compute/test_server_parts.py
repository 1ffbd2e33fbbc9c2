"""What hangs on a server: metadata, tags, action log, consoles, events, and what the guest reads of itself."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from urllib.parse import parse_qs, unquote, urlsplit

from kilonova.bus.memory import MemoryBus
from kilonova.compute.client import ComputeEvents
from kilonova.compute.contract import Power
from kilonova.compute.metadata import metadata_app
from kilonova.compute.reconcile import power_sync, retention
from kilonova.http.client import AsgiTransport, Client
from kilonova.trace import spans
from tests.api.compute.test_servers import in_cloud
from tests.api.support import ApiClient
from tests.laws.servers import Door


async def active(door: Door) -> str:
    server_id = await door.create(metadata={"a": "1"})
    await door.cloud.settle()
    return server_id


def test_metadata() -> None:
    async def main(door: Door) -> None:
        path = f"/v2.1/servers/{await active(door)}/metadata"
        assert await door.client.get(path) == {"metadata": {"a": "1"}}
        assert await door.client.post(path, {"metadata": {"b": "2"}}, 200) == {"metadata": {"a": "1", "b": "2"}}
        assert await door.client.put(f"{path}/a", {"meta": {"a": "9"}}) == {"meta": {"a": "9"}}
        await door.client.put(f"{path}/a", {"meta": {"other": "9"}}, 400)
        await door.client.delete(f"{path}/b")
        await door.client.delete(f"{path}/b", 404)
        await door.client.get(f"{path}/b", 404)
        assert await door.client.put(path, {"metadata": {"c": "3"}}) == {"metadata": {"c": "3"}}
        many = {str(number): "" for number in range(200)}
        await door.client.put(path, {"metadata": many}, 403)

    in_cloud(main)


def test_tags() -> None:
    async def main(door: Door) -> None:
        path = f"/v2.1/servers/{await active(door)}/tags"
        assert (await door.client.send("PUT", f"{path}/red")).status == 201
        assert (await door.client.send("PUT", f"{path}/red")).status == 204
        assert (await door.client.send("GET", f"{path}/red")).status == 204
        await door.client.get(f"{path}/blue", 404)
        assert await door.client.put(path, {"tags": ["x", "y", "x"]}) == {"tags": ["x", "y"]}
        await door.client.put(path, {"tags": [str(number) for number in range(51)]}, 400)
        await door.client.put(path, {"tags": ["x"] * 51}, 400)
        await door.client.delete(f"{path}/x")
        await door.client.delete(path)
        assert await door.client.get(path) == {"tags": []}
        await door.client.at("compute 2.25").get(path, 404)

    in_cloud(main)


def test_the_action_log_tells_each_step_and_hides_hosts_from_users() -> None:
    async def main(door: Door) -> None:
        server_id = await active(door)
        await door.act(server_id, "os-stop")
        await door.cloud.settle()
        path = f"/v2.1/servers/{server_id}/os-instance-actions"
        listed = (await door.client.get(path))["instanceActions"]
        assert [one["action"] for one in listed] == ["stop", "create"]
        first = (await door.client.get(f"{path}?limit=1"))["links"][0]["href"]
        rest = (await door.client.get(first.split("localhost", 1)[1]))["instanceActions"]
        assert [one["action"] for one in rest] == ["create"]
        shown = (await door.client.get(f"{path}/{listed[1]['request_id']}"))["instanceAction"]
        events = {event["event"]: event for event in shown["events"]}
        built = events["compute_build_and_run_instance"]
        assert built["result"] == "Success"
        assert "host" not in built and built["hostId"]
        seen = (await door.client.as_("admin").get(f"{path}/{listed[1]['request_id']}"))["instanceAction"]
        assert {event["host"] for event in seen["events"]} == {None, "node1"}
        await door.client.get(f"{path}/req-none", 404)
        await door.delete(server_id)
        await door.cloud.settle()
        assert (await door.client.get(path))["instanceActions"][0]["action"] == "delete"

    in_cloud(main)


def test_consoles() -> None:
    async def main(door: Door) -> None:
        server_id = await active(door)
        action = f"/v2.1/servers/{server_id}/action"
        log = await door.client.post(action, {"os-getConsoleOutput": {"length": 3}}, 200)
        assert len(log["output"].splitlines()) == 3
        assert await door.client.post(action, {"os-getConsoleOutput": {}}, 200) != log
        await door.client.post(action, {"os-getConsoleOutput": {"length": "many"}}, 400)
        wanted = {"remote_console": {"protocol": "vnc", "type": "novnc"}}
        made = await door.client.post(f"/v2.1/servers/{server_id}/remote-consoles", wanted, 200)
        url = urlsplit(made["remote_console"]["url"])
        inner = urlsplit(unquote(parse_qs(url.query)["path"][0]))
        token = parse_qs(inner.query)["token"][0]
        assert (url.path, inner.path) == ("/vnc_lite.html", "websockify")
        conductor = await door.cloud.start_conductor()
        assert await conductor.check_console(token) == (server_id, "node1")
        assert await conductor.check_console(token) is None
        old = await door.client.at("compute 2.1").post(action, {"os-getVNCConsole": {"type": "novnc"}}, 200)
        assert old["console"]["type"] == "novnc"
        await door.cloud.api_world.clock.sleep(3600)
        assert await retention.console_tokens(door.cloud.api) == 1
        await door.act(server_id, "os-stop")
        await door.cloud.settle()
        await door.client.post(f"/v2.1/servers/{server_id}/remote-consoles", wanted, 409)

    in_cloud(main)


def test_external_events_reach_the_host_and_only_services_send_them() -> None:
    async def main(door: Door) -> None:
        server_id = await active(door)
        one = {"name": "network-vif-plugged", "server_uuid": server_id, "tag": "p1"}
        path, gone = "/v2.1/os-server-external-events", "11111111-2222-4333-8444-555555555555"
        await door.client.post(path, {"events": [one]}, 403)
        service = door.client.as_("service")
        assert (await service.post(path, {"events": [one]}, 200))["events"][0]["code"] == 200
        mixed = await service.post(path, {"events": [one, one | {"server_uuid": gone}]}, 207)
        assert [event["code"] for event in mixed["events"]] == [200, 404]
        await service.post(path, {"events": [one | {"server_uuid": gone}]}, 404)
        await service.post(path, {"events": [one | {"name": "sunrise"}]}, 400)

        async def token() -> str:
            return "service"

        events = ComputeEvents(Client(AsgiTransport(service._app)), token)
        await events.port_events([("network-vif-plugged", gone, "p1")])

    in_cloud(main)


def test_a_guest_that_shuts_itself_down_is_stopped_in_the_record() -> None:
    async def main(door: Door) -> None:
        server_id = await active(door)
        door.cloud.hosts["node1"].machine.power_off(server_id)
        await door.cloud.api_world.clock.sleep(30)
        assert await power_sync.run(door.cloud.api) == 1
        assert (await door.client.get(f"/v2.1/servers/{server_id}"))["server"]["status"] == "SHUTOFF"

    in_cloud(main)


def test_what_a_build_or_a_deletion_did_to_a_guest_is_told_by_its_step_alone() -> None:
    seen: list[str] = []

    def listen(span: spans.Span) -> None:
        if span.name == "guests_seen":
            seen.append(span.source)

    async def main(door: Door) -> None:
        server_id = await active(door)
        await door.cloud.api_world.clock.sleep(5)
        assert seen == []
        await door.act(server_id, "pause")  # in a trace, as a build is: what is told of it shows
        await door.cloud.settle()
        await door.cloud.api_world.clock.sleep(5)
        assert len(seen) == 1
        await door.delete(server_id)
        await door.cloud.settle()
        await door.cloud.api_world.clock.sleep(5)
        assert len(seen) == 1

    spans.RING.sinks.append(listen)
    try:
        in_cloud(main)
    finally:
        spans.RING.sinks.remove(listen)


def test_a_guest_that_runs_though_its_user_stopped_it_is_stopped_again() -> None:
    async def main(door: Door) -> None:
        server_id = await active(door)
        await door.act(server_id, "os-stop")
        await door.cloud.settle()
        machine = door.cloud.hosts["node1"].machine
        machine.set_power(machine.guest(server_id), Power.RUNNING)
        await door.cloud.api_world.clock.sleep(30)
        assert await power_sync.run(door.cloud.api) == 1
        await door.cloud.settle()
        assert machine.guests[server_id].power == Power.SHUTDOWN
        assert (await door.client.get(f"/v2.1/servers/{server_id}"))["server"]["status"] == "SHUTOFF"
        assert await power_sync.run(door.cloud.api) == 0

    in_cloud(main)


def test_a_locked_server_is_changed_by_operators_only() -> None:
    async def main(door: Door) -> None:
        server_id = await active(door)
        path = f"/v2.1/servers/{server_id}"
        await door.client.post(f"{path}/action", {"lock": {"locked_reason": "mine"}}, 202)
        shown = (await door.client.get(path))["server"]
        assert (shown["locked"], shown["locked_reason"]) == (True, "mine")
        await door.act(server_id, "os-stop", 409)
        await door.delete(server_id, 409)
        await door.client.as_("other").post(f"{path}/action", {"unlock": None}, 404)
        await door.act(server_id, "unlock")
        operator = door.client.as_("admin")
        await operator.post(f"{path}/action", {"lock": None}, 202)
        await door.act(server_id, "lock")
        await door.act(server_id, "unlock", 403)
        await door.client.at("compute 2.72").post(f"{path}/action", {"lock": {"locked_reason": "no"}}, 400)
        await operator.post(f"{path}/action", {"unlock": None}, 202)
        await door.act(server_id, "os-stop")
        await door.cloud.settle()

    in_cloud(main)


def test_a_guest_whose_server_is_gone_is_destroyed() -> None:
    async def main(door: Door) -> None:
        server_id = await active(door)
        machine = door.cloud.hosts["node1"].machine
        guest = machine.guests[server_id]
        await door.delete(server_id)
        await door.cloud.settle()
        machine.guests[server_id] = guest
        guest.power = Power.RUNNING
        await door.cloud.api_world.clock.sleep(120)
        assert machine.guests == {}

    in_cloud(main)


def test_a_host_learns_nothing_of_other_hosts_servers() -> None:
    async def main(door: Door) -> None:
        server_id = await active(door)
        where = door.state_of(server_id).host
        stranger = next(name for name in door.cloud.hosts if name != where)
        bus = MemoryBus(door.cloud.api_world, door.cloud.broker, f"compute.{stranger}")
        conductor = replace(door.cloud.api, bus=bus).conductor
        for host in (where, stranger):
            try:
                await conductor.server_for_host(host, server_id)
            except Exception as error:
                assert "itself only" in str(error) or "could not be found" in str(error)
            else:
                raise AssertionError(f"{stranger} was told of {where}'s server")

    in_cloud(main, hosts=2)


def test_metadata_service_answers_who_the_proxy_says_asks() -> None:
    async def main(door: Door) -> None:
        server_id = await active(door)
        compute = replace(door.cloud.api, settings=replace(door.cloud.settings, metadata_secret="s"))
        signature = hmac.new(b"s", server_id.encode(), hashlib.sha256).hexdigest()
        headers = {"x-instance-id": server_id, "x-instance-id-signature": signature}
        guest = ApiClient(metadata_app(compute), "", headers)
        found = await guest.get("/openstack/latest/meta_data.json")
        assert (found["uuid"], found["name"], found["meta"]) == (server_id, "s", {"a": "1"})
        assert b"latest" in await guest.get("/openstack")
        assert await guest.get("/latest/meta-data/hostname")
        assert b"meta-data/" in await guest.get("/latest")
        await guest.get("/openstack/latest/nothing", 404)
        liar = ApiClient(metadata_app(compute), "", headers | {"x-instance-id-signature": "0" * 64})
        await liar.get("/openstack/latest/meta_data.json", 403)

    in_cloud(main)


def test_a_guest_that_asks_before_its_build_is_recorded_learns_its_address() -> None:
    """The conductor dies while the host builds: the guest runs, and its record has no ports yet."""

    async def main(door: Door) -> None:
        door.cloud.hosts["node1"].machine.verb_seconds = 0.5
        server_id = await door.create()
        while door.state_of(server_id).task_state != "networking":
            await door.cloud.api_world.clock.sleep(0.01)
        door.cloud.crash_conductors()
        await door.cloud.api_world.clock.sleep(5)
        assert door.cloud.guests() and not door.state_of(server_id).ports
        compute = replace(door.cloud.api, settings=replace(door.cloud.settings, metadata_secret="s"))
        signature = hmac.new(b"s", server_id.encode(), hashlib.sha256).hexdigest()
        headers = {"x-instance-id": server_id, "x-instance-id-signature": signature}
        told = await ApiClient(metadata_app(compute), "", headers).get("/latest/meta-data/local-ipv4")
        await door.cloud.settle()
        [port] = door.state_of(server_id).ports
        assert told.decode() == port["fixed_ips"][0]["address"]

    in_cloud(main)
