"""Rebuild through the API's door: what changes, what stays, and what a failure leaves."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest

from kilonova.base.faults import unavailable
from kilonova.block_storage.contract import VolumeRef
from kilonova.sim.peers import IMAGE, sample_image
from tests.api.compute.test_resize import VOLUME, act, active, held, shown
from tests.api.compute.test_servers import in_cloud
from tests.laws.servers import Door

OTHER_IMAGE = "00000000-0000-4000-8000-0000000000bc"
DATA = base64.b64encode(b"#!/bin/sh").decode()


def with_other_image(door: Door, **more: Any) -> None:
    other = sample_image(OTHER_IMAGE)
    door.cloud.books.images[OTHER_IMAGE] = msgspec.structs.replace(other, **more)


async def refused(door: Door, server_id: str, body: Any, status: int, version: str = "2.90") -> str:
    client = door.client.at(f"compute {version}")
    reply = await client.send("POST", f"/v2.1/servers/{server_id}/action", {"rebuild": body})
    assert reply.status == status, (body, reply.json())
    return str(next(iter(reply.json().values()))["message"])


def test_a_rebuilt_server_keeps_its_address_and_shows_what_was_asked_for() -> None:
    async def main(door: Door) -> None:
        with_other_image(door)
        door.cloud.catalogue.keys["user-member", "k"] = "ssh-ed25519 A"
        server_id = await active(door)
        before = await shown(door, server_id)
        wanted = {
            "imageRef": OTHER_IMAGE, "name": "new", "adminPass": "secret", "metadata": {"a": "b"},
            "accessIPv4": "192.0.2.9", "OS-DCF:diskConfig": "AUTO", "description": "fresh", "user_data": DATA,
            "key_name": None, "hostname": "fresh", "preserve_ephemeral": False,
        }  # fmt: skip
        reply = await door.client.send("POST", f"/v2.1/servers/{server_id}/action", {"rebuild": wanted})
        assert reply.status == 202 and reply.headers["location"].endswith(server_id)
        told = reply.json()["server"]
        assert (told["status"], told["adminPass"], told["name"]) == ("REBUILD", "secret", "new")
        assert (told["user_data"], told["key_name"], told["image"]["id"]) == (DATA, None, OTHER_IMAGE)
        await door.cloud.settle()
        now = await shown(door, server_id)
        assert (now["status"], now["addresses"], now["created"]) == ("ACTIVE", before["addresses"], before["created"])
        assert (now["metadata"], now["description"]) == ({"a": "b"}, "fresh")
        assert now["OS-EXT-SRV-ATTR:hostname"] == "fresh" and now["accessIPv4"] == "192.0.2.9"
        machine = door.cloud.hosts["node1"].machine
        assert machine.passwords[server_id] == "secret" and machine.kept_disks == {}

    in_cloud(main).balance()


def test_a_stopped_server_stays_stopped_and_one_in_error_is_active() -> None:
    async def main(door: Door) -> None:
        server_id = await active(door)
        await act(door, server_id, "os-stop")
        await act(door, server_id, "rebuild", {"imageRef": IMAGE})
        assert door.state(server_id) == "stopped"
        await act(door, server_id, "os-start")
        with door.cloud.db.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE server SET vm_state = 'error'")
        await act(door, server_id, "rebuild", {"imageRef": IMAGE})
        assert (await shown(door, server_id))["status"] == "ACTIVE"

    in_cloud(main).balance()


def test_what_is_wrong_is_said_before_anything_is_written() -> None:
    async def main(door: Door) -> None:
        with_other_image(door, min_ram_mb=4096)
        server_id = await active(door)
        assert "memory is too small" in await refused(door, server_id, {"imageRef": OTHER_IMAGE}, 400)
        with_other_image(door, min_disk_gb=9)
        assert "disk is smaller" in await refused(door, server_id, {"imageRef": OTHER_IMAGE}, 400)
        with_other_image(door, status="queued")
        assert "not active" in await refused(door, server_id, {"imageRef": OTHER_IMAGE}, 400)
        for body in (
            {}, {"imageRef": ""}, {"imageRef": "no"}, {"imageRef": IMAGE, "name": ""}, {"imageRef": IMAGE, "x": 1},
            {"imageRef": IMAGE, "metadata": {"k": 1}}, {"imageRef": IMAGE, "key_name": "none"},
            {"imageRef": IMAGE, "user_data": "*"}, {"imageRef": IMAGE, "accessIPv4": "::1"},
            {"imageRef": IMAGE, "hostname": "-"}, {"imageRef": IMAGE, "OS-DCF:diskConfig": "no"},
            {"imageRef": IMAGE, "trusted_image_certificates": []}, {"imageRef": IMAGE, "preserve_ephemeral": "maybe"},
        ):  # fmt: skip
            await refused(door, server_id, body, 400)
        for field, value, version in (
            ("description", "d", "2.18"), ("key_name", None, "2.53"), ("user_data", DATA, "2.56"),
            ("trusted_image_certificates", ["a"], "2.62"), ("hostname", "h1", "2.89"), ("personality", [], "2.57"),
        ):  # fmt: skip
            await refused(door, server_id, {"imageRef": IMAGE, field: value}, 400, version)
        now = await shown(door, server_id)
        assert (now["OS-EXT-STS:task_state"], now["metadata"], now["image"]["id"]) == (None, {}, IMAGE)

    in_cloud(main).balance()


def test_fields_come_with_their_microversions() -> None:
    async def main(door: Door) -> None:
        server_id = await active(door)
        for version, more in (("2.1", set()), ("2.53", set()), ("2.54", {"key_name"}), ("2.57", {"user_data"})):
            client = door.client.at(f"compute {version}")
            answer = await client.post(f"/v2.1/servers/{server_id}/action", {"rebuild": {"imageRef": IMAGE}}, 202)
            await door.cloud.settle()
            assert "adminPass" in answer["server"], version
            assert {"key_name", "user_data"} & set(answer["server"]) >= more, version
            if version in ("2.1", "2.53"):
                assert not {"key_name", "user_data"} & set(answer["server"])

    in_cloud(main).balance()


def test_twenty_rebuilds_leave_the_claims_as_they_were() -> None:
    async def main(door: Door) -> None:
        with_other_image(door)
        server_id = await active(door)
        claims = door.cloud.books.allocations.copy()
        for number in range(20):
            await act(door, server_id, "rebuild", {"imageRef": (OTHER_IMAGE, IMAGE)[number % 2]})
        assert door.cloud.books.allocations == claims and held(door) == [512]

    in_cloud(main).balance()


@pytest.mark.parametrize("verb", ["ensure_image", "replace_disks", "ensure_disks", "ensure_started"])
def test_a_rebuild_that_fails_gives_the_old_server_back(verb: str) -> None:
    async def main(door: Door) -> None:
        with_other_image(door)
        server_id = await active(door, metadata={"old": "1"})
        machine = door.cloud.hosts["node1"].machine
        machine.refuse(verb, unavailable("The disk is broken."), 1)
        await act(door, server_id, "rebuild", {"imageRef": OTHER_IMAGE, "name": "new", "metadata": {}})
        now = await shown(door, server_id)
        assert (now["status"], now["name"], now["metadata"]) == ("ACTIVE", "s", {"old": "1"})
        assert now["image"]["id"] == IMAGE and machine.guests[server_id].power == "running"
        assert machine.kept_disks == {}

    in_cloud(main).balance()


def test_a_host_that_cannot_run_the_new_image_keeps_the_old() -> None:
    async def main(door: Door) -> None:
        with_other_image(door, properties={"hw_architecture": "aarch64"})
        server_id = await active(door)
        await act(door, server_id, "rebuild", {"imageRef": OTHER_IMAGE})
        assert (await shown(door, server_id))["image"]["id"] == IMAGE
        assert door.state(server_id) == "active"

    in_cloud(main).balance()


def test_a_root_volume_keeps_its_image() -> None:
    async def main(door: Door) -> None:
        with_other_image(door)
        volume = VolumeRef(VOLUME, "root", "available", 5, True, False, "nova", {"image_id": IMAGE})
        door.cloud.books.volumes[VOLUME] = volume
        root = {"boot_index": 0, "uuid": VOLUME, "source_type": "volume", "destination_type": "volume"}
        server_id = await active(door, imageRef="", block_device_mapping_v2=[root])
        assert "volume-backed" in await refused(door, server_id, {"imageRef": OTHER_IMAGE}, 400)
        await act(door, server_id, "rebuild", {"imageRef": IMAGE, "name": "again"})
        assert (await shown(door, server_id))["name"] == "again"
        assert door.cloud.books.volumes[VOLUME].status == "in-use"

    in_cloud(main).balance()


@pytest.mark.parametrize("pause_seconds", [0.0, 0.4, 0.9, 1.5, 2.5])
def test_a_delete_at_any_moment_wins_and_leaves_nothing(pause_seconds: float) -> None:
    async def main(door: Door) -> None:
        server_id = await active(door)
        machine = door.cloud.hosts["node1"].machine
        machine.verb_seconds = 0.2
        await door.act(server_id, "rebuild", body={"imageRef": IMAGE})
        await door.cloud.api_world.clock.sleep(pause_seconds)
        await door.delete(server_id)
        await door.cloud.settle()
        assert (held(door), machine.guests, machine.disks, machine.kept_disks) == ([], {}, {}, {})

    in_cloud(main).balance()
