"""Attaching: reserved, attaching, in-use, available; by compute's client, by the API, and by the older actions."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kilonova.base.faults import Fault, Kind, unavailable
from kilonova.block_storage.client import VolumeClient
from kilonova.block_storage.contract import Connector, NewVolume
from kilonova.http.client import AsgiTransport, Client
from tests.api.block_storage.test_volumes_api import cloud
from tests.laws.storage import IMAGE, Storage

SERVER = "462dcc2d-130d-4654-8db1-da0df2da6a0d"
OTHER_SERVER = "562dcc2d-130d-4654-8db1-da0df2da6a0d"


def compute(s: Storage) -> VolumeClient:
    return VolumeClient(Client(AsgiTransport(s.app)))


def test_computes_client_lives_a_volumes_life_and_repeats_are_harmless() -> None:
    async def work(s: Storage) -> None:
        volumes = compute(s)
        wanted = NewVolume(5, "root", image_id=IMAGE.id)
        first = await volumes.create("server", "op/1", wanted)
        assert (await volumes.create("server", "op/1", wanted)).id == first.id
        await s.settle()
        volume = await volumes.show("server", first.id)
        assert (volume.status, volume.size_gib, volume.bootable) == ("available", 5, True)
        assert volume.image_metadata["image_name"] == "debian"
        attachment = await volumes.reserve("server", "op/2", volume.id, SERVER)
        assert await volumes.reserve("server", "op/2", volume.id, SERVER) == attachment
        assert await s.status(volume.id) == "reserved"
        for _ in range(2):
            connected = await volumes.connect("server", attachment, Connector("node1"), "/dev/vda")
            assert connected.connection is not None
            assert connected.connection.driver_volume_type == "file"
            assert connected.connection.data["format"] == "raw"
            assert await s.status(volume.id) == "attaching"
        for _ in range(2):
            await volumes.complete("server", attachment)
            assert await s.status(volume.id) == "in-use"
        assert s.pools["node1@files"].connectors == {volume.id: {"node1"}}
        await volumes.connect("server", attachment, Connector("node1"), "/dev/vda")
        assert await s.status(volume.id) == "in-use"
        for _ in range(2):
            await volumes.detach("server", attachment)
            assert await s.status(volume.id) == "available"
        assert s.pools["node1@files"].connectors == {}
        for _ in range(2):
            await volumes.delete("server", volume.id)
        await s.settle()
        await volumes.delete("server", volume.id)
        with pytest.raises(Fault) as gone:
            await volumes.show("server", volume.id)
        assert gone.value.kind is Kind.NOT_FOUND

    cloud(work)


def test_a_connection_that_comes_after_its_attachments_end_is_undone_when_the_agent_answers_again() -> None:
    async def work(s: Storage) -> None:
        volumes, pool = compute(s), s.pools["node1@files"]
        volume = await volumes.create("server", "op/1", NewVolume(1, "data"))
        await s.settle()
        attachment = await volumes.reserve("server", "op/2", volume.id, SERVER)
        pool.verb_seconds = 5.0
        connect = asyncio.create_task(volumes.connect("server", attachment, Connector("node1"), "/dev/vdb"))
        await asyncio.sleep(1)
        pool.verb_seconds = 0.0
        reset = {"os-reset_status": {"attach_status": "detached"}}
        await s.api("admin").post(f"/v3/volumes/{volume.id}/action", reset, 202)
        pool.refuse("disconnect", unavailable("The agent does not answer."), 2)
        with pytest.raises(Fault) as gone:
            await connect
        assert gone.value.kind is Kind.NOT_FOUND
        assert pool.connectors == {volume.id: {"node1"}}
        await asyncio.sleep(130)  # twice refused, asked once a minute
        assert pool.connectors == {}

    cloud(work)


def test_connections_that_nobody_wants_go_and_those_asked_for_stay() -> None:
    async def work(s: Storage) -> None:
        asked, held, lost = [await s.available() for _ in range(3)]
        path = f"/v3/volumes/{asked}/action"
        await s.api().post(path, {"os-initialize_connection": {"connector": {"host": "lab"}}}, 200)
        await attached(s, held)
        connectors = s.pools["node1@files"].connectors
        connectors[lost].add("node1")  # as a process leaves it that died before it could undo it
        connectors[held].add("node2")
        await asyncio.sleep(70)
        assert connectors == {asked: {"lab"}, held: {"node1"}}
        await s.api().post(path, {"os-terminate_connection": {"connector": {"host": "lab"}}}, 202)
        connectors[asked].add("lab")
        await asyncio.sleep(70)
        assert connectors == {held: {"node1"}}

    cloud(work)


async def attached(s: Storage, volume_id: str, server: str = SERVER, host: str = "node1") -> str:
    volumes = compute(s)
    attachment = await volumes.reserve("server", f"{volume_id}/{server}", volume_id, server)
    await volumes.connect("server", attachment, Connector(host), "/dev/vdb")
    await volumes.complete("server", attachment)
    return attachment


def test_a_servers_volume_is_not_taken_behind_its_back() -> None:
    async def work(s: Storage) -> None:
        volume_id = await s.available()
        attachment = await attached(s, volume_id)
        for token in ("member", "admin"):
            refused = await s.api(token).delete(f"/v3/attachments/{attachment}", 409)
            assert "Compute API" in refused["conflictingRequest"]["message"]
            detach = {"os-detach": {"attachment_id": attachment}}
            await s.api(token).post(f"/v3/volumes/{volume_id}/action", detach, 409)
            terminate = {"os-terminate_connection": {"connector": {"host": "node1"}}}
            await s.api(token).post(f"/v3/volumes/{volume_id}/action", terminate, 409)
        await s.api().delete(f"/v3/volumes/{volume_id}", 400)
        await s.api("admin").post(f"/v3/volumes/{volume_id}/action", {"os-force_delete": {}}, 400)
        shown = (await s.api().get(f"/v3/volumes/{volume_id}"))["volume"]["attachments"][0]
        assert (shown["server_id"], shown["device"], shown["host_name"]) == (SERVER, "/dev/vdb", None)
        rest = await s.api("server").delete(f"/v3/attachments/{attachment}", 200)
        assert rest == {"attachments": []}

    cloud(work)


def test_one_server_at_a_time_unless_it_is_multiattach() -> None:
    async def work(s: Storage) -> None:
        one = await s.available()
        await attached(s, one)
        with pytest.raises(Fault) as refused:
            await attached(s, one, OTHER_SERVER)
        assert refused.value.kind is Kind.INVALID
        kind = {"volume_type": {"name": "shared", "extra_specs": {"multiattach": "<is> True"}}}
        await s.api("admin").post("/v3/types", kind, 200)
        many = await s.available(volume_type="shared")
        first, second = await attached(s, many), await attached(s, many, OTHER_SERVER, "node1")
        await compute(s).detach("server", first)
        assert await s.status(many) == "in-use"
        assert s.pools["node1@files"].connectors[many] == {"node1"}
        await compute(s).detach("server", second)
        assert many not in s.pools["node1@files"].connectors
        assert await s.status(many) == "available"

    cloud(work)


def test_racing_servers_get_a_volume_once() -> None:
    async def work(s: Storage) -> None:
        volume_id = await s.available()
        bodies = [
            {"attachment": {"volume_uuid": volume_id, "instance_uuid": f"462dcc2d-130d-4654-8db1-da0df2da6a{n}"}}
            for n in range(10, 20)
        ]
        sent = [s.world.spawn(s.api().send("POST", "/v3/attachments", body), "race") for body in bodies]
        assert sorted([(await one).status for one in sent]) == [200] + [400] * 9

    cloud(work)


def test_attachments_are_listed_to_their_project_since_3_27() -> None:
    async def work(s: Storage) -> None:
        volume_id = await s.available()
        body: dict[str, Any] = {"volume_uuid": volume_id, "instance_uuid": SERVER, "connector": {"host": "node1"}}
        made = (await s.api().post("/v3/attachments", {"attachment": body}, 200))["attachment"]
        assert (made["status"], made["connection_info"]["driver_volume_type"]) == ("attaching", "file")
        listed = (await s.api("reader").get(f"/v3/attachments?volume_id={volume_id}"))["attachments"]
        assert listed == [{"id": made["id"], "status": "attaching", "instance": SERVER, "volume_id": volume_id}]
        assert (await s.api("other").get("/v3/attachments"))["attachments"] == []
        await s.api("other").get(f"/v3/attachments/{made['id']}", 404)
        await s.api(version="3.26").get("/v3/attachments", 404)
        path = f"/v3/attachments/{made['id']}"
        await s.api(version="3.43").post(f"{path}/action", {"os-complete": {}}, 404)
        await s.api().put(path, {"attachment": {"connector": {"host": "node2"}}}, 400)
        await s.api().put(path, {"attachment": {"connector": {}}}, 400)
        await s.api().post("/v3/attachments", {"attachment": body | {"instance_uuid": "x"}}, 400)

    cloud(work)


def test_older_actions_move_the_status() -> None:
    async def work(s: Storage) -> None:
        volume_id = await s.available()
        path = f"/v3/volumes/{volume_id}/action"

        async def act(name: str, body: Any, status: int, shown: str) -> None:
            await s.api().post(path, {name: body}, status)
            assert await s.status(volume_id) == shown

        await act("os-reserve", {}, 202, "attaching")
        await act("os-reserve", {}, 400, "attaching")
        await act("os-unreserve", {}, 202, "available")
        await act("os-attach", {"host_name": "lab", "mountpoint": "/dev/vdc"}, 202, "in-use")
        await act("os-begin_detaching", {}, 202, "detaching")
        await act("os-roll_detaching", {}, 202, "in-use")
        await act("os-detach", {}, 202, "available")
        await act("os-set_bootable", {"bootable": True}, 200, "available")
        await act("os-update_readonly_flag", {"readonly": True}, 202, "available")
        await act("os-attach", {"host_name": "lab", "mountpoint": "/dev/vdc", "mode": "rw"}, 400, "available")
        await act("os-set_image_metadata", {"metadata": {"os_distro": "debian"}}, 200, "available")
        await act("os-unset_image_metadata", {"key": "os_distro"}, 200, "available")
        await act("os-reset_status", {"status": "error"}, 403, "available")
        info = await s.api().post(path, {"os-initialize_connection": {"connector": {"host": "lab"}}}, 200)
        assert info["connection_info"]["driver_volume_type"] == "file"
        await act("os-terminate_connection", {"connector": {"host": "lab"}}, 202, "available")
        await s.api("admin").post(path, {"os-reset_status": {"status": "error"}}, 202)
        assert await s.status(volume_id) == "error"

    cloud(work)


def test_compute_alone_cleans_up_when_the_users_token_is_gone() -> None:
    async def work(s: Storage) -> None:
        volume_id = await s.available()
        attachment = await attached(s, volume_id)
        await s.api("bare service").get("/v3/volumes?all_tenants=1", 403)
        await compute(s).detach("bare service", attachment)
        await compute(s).delete("bare service", volume_id)
        await s.settle()
        assert s.statuses() == {}

    cloud(work)
