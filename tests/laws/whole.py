"""A user of the whole simulated cloud, and one who breaks it."""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import Any

from kilonova.base.faults import Fault
from kilonova.saga.seams import Seams
from kilonova.sim import whole_books
from kilonova.sim.first_cloud import first_cloud
from kilonova.sim.whole_cloud import WholeCloud

VERSIONS = {"openstack-api-version": "compute 2.90, volume 3.71"}

# What users do to servers: (action, its argument).
ACTIONS: tuple[tuple[str, Any], ...] = (
    ("os-stop", None),
    ("os-start", None),
    ("reboot", {"type": "SOFT"}),
    ("reboot", {"type": "HARD"}),
    ("pause", None),
    ("unpause", None),
    ("suspend", None),
    ("resume", None),
    ("changePassword", {"adminPass": "another"}),
    ("restore", None),
    ("forceDelete", None),
)


class Whole:
    """One run: a cloud, what a user made in it, and chance."""

    def __init__(
        self, seed: int, *, faulty: bool = False, seams: Seams | None = None, hasty: Collection[str] = ()
    ) -> None:
        first = first_cloud()
        self.first = first
        self.cloud = WholeCloud(seed, first.databases, faulty=faulty, seams=seams, hasty=hasty)
        self.cloud.store.images.update(first.files)
        self.chance = random.Random(f"work {seed}")
        self.servers: list[str] = []
        self.volumes: list[str] = []
        self.floating_ips: list[str] = []
        self.ports: list[str] = []
        self.history: list[str] = []

    # ── what users do

    async def ask(self, mount: str, method: str, path: str, body: Any = None) -> Any:
        """The answer; None when the cloud refused or was not there. Either goes into the history."""
        now = self.cloud.user.clock.monotonic()
        client = self.cloud.client(self.cloud.user, mount)
        version = VERSIONS["openstack-api-version"].split(", ")[mount == "volume"]
        headers = {"openstack-api-version": version} if mount != "network" else {}
        try:
            reply = await client.request(method, path, token="member", json=body, headers=headers)
        except Fault as fault:
            self.history.append(f"{now:8.2f} {method} {mount}{path}: {fault.kind}: {fault.message}")
            return None
        answer = reply.json() or {}
        made = next((one.get("id", "") for one in answer.values() if isinstance(one, dict)), "")
        self.history.append(f"{now:8.2f} {method} {mount}{path} {body or ''}: {reply.status} {made}")
        return answer

    async def create_server(self, *, volume: str = "", port: str = "", volume_from_image: bool = False) -> str:
        """The new server's id, or "" when it was refused."""
        wanted: dict[str, Any] = {"name": "s", "flavorRef": "1", "networks": [{"uuid": self.first.network_id}]}
        if port:
            wanted["networks"] = [{"port": port}]
        devices = []
        if volume_from_image:
            devices.append(_device(self.first.image_id, "image", boot_index=0, volume_size=1,
                                   delete_on_termination=True))  # fmt: skip
        else:
            wanted["imageRef"] = self.first.image_id
            if volume:
                devices.append({"boot_index": 0, "uuid": self.first.image_id, "source_type": "image",
                                "destination_type": "local", "delete_on_termination": True})  # fmt: skip
        if volume:
            devices.append(_device(volume, "volume", boot_index=-1))
        if devices:
            wanted["block_device_mapping_v2"] = devices
        answer = await self.ask("compute", "POST", "/v2.1/servers", {"server": wanted})
        if answer is None:
            return ""
        self.servers.append(answer["server"]["id"])
        return self.servers[-1]

    async def delete_server(self, server_id: str) -> None:
        await self.ask("compute", "DELETE", f"/v2.1/servers/{server_id}")

    async def act(self, server_id: str, action: str, argument: Any = None) -> None:
        await self.ask("compute", "POST", f"/v2.1/servers/{server_id}/action", {action: argument})

    async def resize(self, server_id: str) -> None:
        """To the flavor that it may not have; a smaller disk is refused."""
        body = {"resize": {"flavorRef": self.chance.choice(["1", "2"])}}
        await self.ask("compute", "POST", f"/v2.1/servers/{server_id}/action", body)

    async def rebuild(self, server_id: str) -> None:
        body = {"rebuild": {"imageRef": self.first.image_id}}
        await self.ask("compute", "POST", f"/v2.1/servers/{server_id}/action", body)

    async def create_volume(self, size: int = 1) -> str:
        """The new volume's id, or ""."""
        answer = await self.ask("volume", "POST", "/v3/volumes", {"volume": {"size": size, "name": "v"}})
        if answer is None:
            return ""
        self.volumes.append(answer["volume"]["id"])
        return self.volumes[-1]

    async def delete_volume(self, volume_id: str) -> None:
        await self.ask("volume", "DELETE", f"/v3/volumes/{volume_id}")

    async def extend_volume(self, volume_id: str, size: int) -> None:
        await self.ask("volume", "POST", f"/v3/volumes/{volume_id}/action", {"os-extend": {"new_size": size}})

    async def attach_volume(self, server_id: str, volume_id: str) -> None:
        body = {"volumeAttachment": {"volumeId": volume_id}}
        await self.ask("compute", "POST", f"/v2.1/servers/{server_id}/os-volume_attachments", body)

    async def detach_volume(self, server_id: str, volume_id: str) -> None:
        await self.ask("compute", "DELETE", f"/v2.1/servers/{server_id}/os-volume_attachments/{volume_id}")

    async def attach_interface(self, server_id: str, port_id: str) -> None:
        body = {"interfaceAttachment": {"port_id": port_id} if port_id else {"net_id": self.first.network_id}}
        await self.ask("compute", "POST", f"/v2.1/servers/{server_id}/os-interface", body)

    async def detach_interface(self, server_id: str) -> None:
        """The last of its ports."""
        found = await self.ask("compute", "GET", f"/v2.1/servers/{server_id}/os-interface")
        if found and found["interfaceAttachments"]:
            port_id = found["interfaceAttachments"][-1]["port_id"]
            await self.ask("compute", "DELETE", f"/v2.1/servers/{server_id}/os-interface/{port_id}")

    async def create_port(self) -> str:
        """The new port's id, or ""."""
        answer = await self.ask("network", "POST", "/v2.0/ports", {"port": {"network_id": self.first.network_id}})
        if answer is None:
            return ""
        self.ports.append(answer["port"]["id"])
        return self.ports[-1]

    async def create_floating_ip(self, port_id: str = "") -> None:
        wanted = {"floating_network_id": self.first.public_id} | ({"port_id": port_id} if port_id else {})
        answer = await self.ask("network", "POST", "/v2.0/floatingips", {"floatingip": wanted})
        if answer is not None:
            self.floating_ips.append(answer["floatingip"]["id"])

    # ── how it ends

    async def sleep(self, seconds: float) -> None:
        await self.cloud.user.clock.sleep(seconds)

    async def settle(self, limit_seconds: float = 900.0) -> None:
        """Everything up again, then until the books balance; else AssertionError with what does not."""
        await self.cloud.start_all()
        end = self.cloud.user.clock.monotonic() + limit_seconds
        while found := whole_books.check(self.cloud):
            if self.cloud.user.clock.monotonic() > end:
                raise AssertionError("\n".join([f"seed {self.cloud.seed}", *found, "history:", *self.history]))
            await self.sleep(5)
            await self.cloud.start_all()


def _device(uuid: str, source: str, **more: Any) -> dict[str, Any]:
    return {"uuid": uuid, "source_type": source, "destination_type": "volume", **more}


async def mixed_work(whole: Whole, rounds: int) -> None:
    """What users and bad luck do, by chance."""
    chance = whole.chance
    await whole.cloud.start_all()
    await whole.sleep(2)
    for _ in range(rounds):
        await _one_deed(whole)
        await whole.sleep(chance.random() * 3)
        if chance.random() < 0.35:
            name = chance.choice(whole.cloud.names())
            whole.history.append(f"{whole.cloud.user.clock.monotonic():8.2f} {name} crashes")
            whole.cloud.crash(name)
            if chance.random() < 0.5:
                await whole.sleep(chance.random() * 8)
            if chance.random() < 0.7:
                await whole.cloud.start_all()
    await whole.settle()


async def _one_deed(whole: Whole) -> None:
    chance = whole.chance
    if whole.servers and chance.random() < 0.25:
        await _plug(whole, chance.choice(whole.servers))
        return
    pick = chance.random()
    if pick < 0.3 or not whole.servers:
        volume = chance.choice([*whole.volumes, ""]) if chance.random() < 0.5 else ""
        port = chance.choice([*whole.ports, ""]) if chance.random() < 0.4 else ""
        await whole.create_server(volume=volume, port=port, volume_from_image=chance.random() < 0.25)
    elif pick < 0.45:
        await whole.delete_server(chance.choice(whole.servers))
    elif pick < 0.6:
        await whole.act(chance.choice(whole.servers), *chance.choice(ACTIONS))
    elif pick < 0.72:
        await _resize_or_rebuild(whole, chance.choice(whole.servers))
    elif pick < 0.8:
        await whole.create_volume()
    elif pick < 0.85 and whole.volumes:
        await whole.delete_volume(chance.choice(whole.volumes))
    elif pick < 0.88 and whole.volumes:
        await whole.extend_volume(chance.choice(whole.volumes), 3)
    elif pick < 0.94:
        await whole.create_port()
    else:
        await whole.create_floating_ip(chance.choice([*whole.ports, ""]))


async def _plug(whole: Whole, server_id: str) -> None:
    """Something goes into a server that is there, or out of it."""
    chance = whole.chance
    if chance.random() < 0.4:
        if chance.random() < 0.6:
            await whole.attach_interface(server_id, chance.choice([*whole.ports, ""]))
        else:
            await whole.detach_interface(server_id)
        return
    volume_id = chance.choice(whole.volumes) if whole.volumes else await whole.create_volume()
    if chance.random() < 0.6:
        await whole.attach_volume(server_id, volume_id)
    else:
        await whole.detach_volume(server_id, volume_id)


async def _resize_or_rebuild(whole: Whole, server_id: str) -> None:
    await whole.sleep(20)  # long enough to be built, if nothing is in the way
    if whole.chance.random() < 0.3:
        return await whole.rebuild(server_id)
    await whole.resize(server_id)
    if whole.chance.random() < 0.8:
        await whole.sleep(whole.chance.random() * 8)
        await whole.act(server_id, whole.chance.choice(["confirmResize", "revertResize"]))
    return None


async def resizing_work(whole: Whole, rounds: int) -> None:
    """Servers that are there are resized, confirmed, reverted, rebuilt and sometimes deleted, while processes die."""
    chance = whole.chance
    await whole.cloud.start_all()
    await whole.sleep(2)
    for _ in range(2):
        await whole.create_server(volume_from_image=chance.random() < 0.25)
    await whole.sleep(40)
    for _ in range(rounds):
        server_id = chance.choice(whole.servers)
        pick = chance.random()
        if pick < 0.4:
            await whole.resize(server_id)
        elif pick < 0.75:
            await whole.act(server_id, chance.choice(["confirmResize", "revertResize"]))
        elif pick < 0.95:
            await whole.rebuild(server_id)
        else:
            await whole.delete_server(server_id)
        await whole.sleep(chance.random() * 12)
        if chance.random() < 0.4:
            name = chance.choice(whole.cloud.names())
            whole.history.append(f"{whole.cloud.user.clock.monotonic():8.2f} {name} crashes")
            whole.cloud.crash(name)
            await whole.sleep(chance.random() * 8)
            await whole.cloud.start_all()
    await whole.settle()


async def guest_work(whole: Whole, rounds: int) -> None:
    """Servers that are there, on disks and on volumes, are rescued, copied, backed up, stopped, while processes die."""
    chance = whole.chance
    await whole.cloud.start_all()
    await whole.sleep(2)
    for from_volume in (False, False, True):
        await whole.create_server(volume_from_image=from_volume)
    await whole.sleep(40)
    deeds: tuple[tuple[str, Any], ...] = (
        ("rescue", None),
        ("rescue", None),
        ("unrescue", None),
        ("unrescue", None),
        ("createImage", {"name": "copy"}),
        ("createBackup", {"name": "copy", "backup_type": "daily", "rotation": 1}),
        ("os-stop", None),
        ("os-start", None),
    )
    for _ in range(rounds):
        server_id = chance.choice(whole.servers)
        if chance.random() < 0.03:
            await whole.delete_server(server_id)
        else:
            await whole.act(server_id, *chance.choice(deeds))
        await whole.sleep(chance.random() * 15)
        if chance.random() < 0.35:
            name = chance.choice(whole.cloud.names())
            whole.history.append(f"{whole.cloud.user.clock.monotonic():8.2f} {name} crashes")
            whole.cloud.crash(name)
            await whole.sleep(chance.random() * 8)
            await whole.cloud.start_all()
    await whole.settle()
