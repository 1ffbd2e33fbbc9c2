"""os-volume_attachments and os-interface as clients see them: shapes per version, refusals, other people."""

from __future__ import annotations

import asyncio
from typing import Any

from kilonova.base.faults import conflict
from tests.api.compute.test_servers import in_cloud
from tests.laws.servers import Door
from tests.laws.test_attachments import add_volume, plug_nic

NOWHERE = "00000000-0000-4000-8000-0000000000ff"


async def active(door: Door, **more: Any) -> str:
    server_id = await door.create(**more)
    await door.cloud.settle()
    return server_id


async def attached(door: Door) -> tuple[str, str, str]:
    """(path of the server's attachments, its id, the volume's)."""
    server_id, volume_id = await active(door), add_volume(door)
    path = f"/v2.1/servers/{server_id}/os-volume_attachments"
    body = {"volumeAttachment": {"volumeId": volume_id, "device": "/dev/sdz", "tag": "data"}}
    answer = await door.client.post(path, body, 200)
    assert answer == {"volumeAttachment": {"device": "/dev/vdb", "id": volume_id, "serverId": server_id, "tag": "data",
                                           "delete_on_termination": False, "volumeId": volume_id}}  # fmt: skip
    await door.cloud.settle()
    return path, server_id, volume_id


def test_shapes_of_volume_attachments_by_version() -> None:
    async def main(door: Door) -> None:
        path, server_id, volume_id = await attached(door)
        shown = (await door.client.get(f"{path}/{volume_id}"))["volumeAttachment"]
        assert set(shown) == {"attachment_id", "bdm_uuid", "delete_on_termination", "device", "serverId", "tag",
                              "volumeId"}  # fmt: skip
        assert shown["attachment_id"] in door.cloud.books.attachments
        old = {"device": "/dev/vdb", "id": volume_id, "serverId": server_id, "volumeId": volume_id}
        for version, more in (("2.1", {}), ("2.49", {}), ("2.70", {"tag": "data"}),
                              ("2.79", {"tag": "data", "delete_on_termination": False})):  # fmt: skip
            client = door.client.at(f"compute {version}")
            assert (await client.get(path))["volumeAttachments"] == [old | more], version
        assert (await door.client.get(f"{path}?offset=1"))["volumeAttachments"] == []
        detail = (await door.client.get(f"/v2.1/servers/{server_id}"))["server"]
        assert detail["os-extended-volumes:volumes_attached"] == [{"id": volume_id, "delete_on_termination": False}]
        actions = (await door.client.get(f"/v2.1/servers/{server_id}/os-instance-actions"))["instanceActions"]
        assert [one["action"] for one in actions] == ["attach_volume", "create"]

    in_cloud(main)


def test_what_an_attach_refuses_before_anything_is_written() -> None:
    async def main(door: Door) -> None:
        path, server_id, volume_id = await attached(door)
        other = add_volume(door, 1)

        async def refused(status: int, version: str = "2.90", **body: Any) -> None:
            await door.client.at(f"compute {version}").post(path, {"volumeAttachment": body}, status)

        await refused(400, volumeId="1")
        await refused(404, volumeId=NOWHERE)
        await refused(400, volumeId=volume_id)  # it is in use
        await refused(400, volumeId=other, device="vdb")
        await refused(400, volumeId=other, tag="a/b")
        await refused(400, "2.48", volumeId=other, tag="a")
        await refused(400, "2.78", volumeId=other, delete_on_termination=True)
        await refused(400, volumeId=other, size=1)
        door.cloud.books.volumes[other] = replace_multi(door, other)
        await refused(400, "2.59", volumeId=other)
        await door.client.as_("other").post(path, {"volumeAttachment": {"volumeId": other}}, 404)
        await door.client.as_("reader").post(path, {"volumeAttachment": {"volumeId": other}}, 403)
        await door.client.as_("reader").get(path)
        await door.act(server_id, "lock")
        await refused(409, volumeId=other)
        door.cloud.books.refuse["reserve"] = [conflict("taken")]
        assert len((await door.client.get(path))["volumeAttachments"]) == 1

    in_cloud(main)


def replace_multi(door: Door, volume_id: str) -> Any:
    volume = door.cloud.books.volumes[volume_id]
    volume.multiattach = True
    return volume


def test_update_says_whether_the_volume_goes_with_its_server() -> None:
    async def main(door: Door) -> None:
        path, server_id, volume_id = await attached(door)
        one = f"{path}/{volume_id}"
        await door.client.put(one, {"volumeAttachment": {"volumeId": volume_id, "delete_on_termination": True}}, 202)
        assert (await door.client.get(one))["volumeAttachment"]["delete_on_termination"] is True
        await door.client.put(one, {"volumeAttachment": {"volumeId": NOWHERE, "delete_on_termination": True}}, 400)
        await door.client.put(one, {"volumeAttachment": {"volumeId": volume_id, "delete_on_termination": True,
                                                         "tag": "other"}}, 400)  # fmt: skip
        await door.client.at("compute 2.84").put(one, {"volumeAttachment": {"volumeId": volume_id}}, 404)
        await door.delete(server_id)
        await door.cloud.settle()
        assert volume_id not in door.cloud.books.volumes

    in_cloud(main)


def test_detach_and_what_it_refuses() -> None:
    async def main(door: Door) -> None:
        path, _, volume_id = await attached(door)
        await door.client.delete(f"{path}/{NOWHERE}", 404)
        await door.client.delete(f"{path}/{volume_id}", 202)
        await door.client.delete(f"{path}/{volume_id}", 400)  # on its way out
        await door.cloud.settle()
        await door.client.delete(f"{path}/{volume_id}", 404)
        assert (await door.client.get(path))["volumeAttachments"] == []
        device = {"uuid": "00000000-0000-4000-8000-0000000000bb", "source_type": "image", "boot_index": 0,
                  "destination_type": "volume", "volume_size": 1}  # fmt: skip
        from_volume = await active(door, imageRef="", block_device_mapping_v2=[device])
        path = f"/v2.1/servers/{from_volume}/os-volume_attachments"
        root = (await door.client.get(path))["volumeAttachments"][0]
        assert root["device"] == "/dev/vda"
        await door.client.delete(f"{path}/{root['volumeId']}", 400)

    in_cloud(main)


async def nic(door: Door, server_id: str) -> str:
    doing = asyncio.create_task(plug_nic(door, server_id))
    await door.cloud.api_world.clock.sleep(3)
    return await doing


def test_interfaces_come_and_go() -> None:
    async def main(door: Door) -> None:
        server_id = await active(door)
        path = f"/v2.1/servers/{server_id}/os-interface"
        port_id = await nic(door, server_id)
        listed = (await door.client.get(path))["interfaceAttachments"]
        assert len(listed) == 2
        one = (await door.client.get(f"{path}/{port_id}"))["interfaceAttachment"]
        assert set(one) == {"net_id", "port_id", "mac_addr", "port_state", "fixed_ips", "tag"}
        assert one["port_state"] == "ACTIVE"
        assert "tag" not in (await door.client.at("compute 2.69").get(f"{path}/{port_id}"))["interfaceAttachment"]
        server = (await door.client.get(f"/v2.1/servers/{server_id}"))["server"]
        assert one["fixed_ips"][0]["ip_address"] in str(server["addresses"])
        for body in ({"port_id": "1"}, {"net_id": NOWHERE, "port_id": NOWHERE}, {"other": 1},
                     {"fixed_ips": [{"ip_address": "10.0.0.9"}]}):  # fmt: skip
            await door.client.post(path, {"interfaceAttachment": body}, 400)
        await door.client.post(path, {"interfaceAttachment": {"net_id": NOWHERE}}, 404)
        await door.client.at("compute 2.48").post(path, {"interfaceAttachment": {"tag": "a"}}, 400)
        await door.client.as_("reader").post(path, {"interfaceAttachment": {}}, 403)
        await door.client.delete(f"{path}/{NOWHERE}", 404)
        await door.client.delete(f"{path}/{port_id}", 202)
        await door.cloud.settle()
        await door.client.get(f"{path}/{port_id}", 404)
        assert port_id not in door.cloud.books.ports
        door.balance()

    in_cloud(main)


def test_addresses_and_groups_of_a_server() -> None:
    async def main(door: Door) -> None:
        server_id = await active(door)
        action = f"/v2.1/servers/{server_id}/action"
        old = door.client.at("compute 2.43")
        await old.post(action, {"addFixedIp": {"networkId": NOWHERE}}, 202)
        shown = str((await door.client.get(f"/v2.1/servers/{server_id}"))["server"]["addresses"])
        assert "10.1.0." in shown
        await old.post(action, {"removeFixedIp": {"address": "10.1.0.2"}}, 202)
        await door.client.post(action, {"addFixedIp": {"networkId": NOWHERE}}, 400)
        path = f"/v2.1/servers/{server_id}/os-security-groups"
        await door.client.post(action, {"removeSecurityGroup": {"name": "default"}}, 202)
        assert await door.client.get(path) == {"security_groups": []}
        await door.client.post(action, {"addSecurityGroup": {"name": "default"}}, 202)
        assert [one["name"] for one in (await door.client.get(path))["security_groups"]] == ["default"]
        await door.client.post(action, {"addSecurityGroup": {"name": "unknown"}}, 404)
        await door.client.post(action, {"addSecurityGroup": {"name": ""}}, 400)

    in_cloud(main)
