"""What a new cloud has from the start, made through its own APIs as the admin: the guest image, the classic flavors,
the public network, unlimited quotas for the admin's project. Idempotent: what is there stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from kilonova.base.units import MIB
from kilonova.cli.compose.embedded_ground import EmbeddedGround
from kilonova.cli.guest import cache_directory
from kilonova.http.client import Client

IMAGE = "cirros"
PUBLIC = "public"
FLAVORS = (
    ("1", "m1.tiny", 1, 512, 1),
    ("2", "m1.small", 1, 2048, 20),
    ("3", "m1.medium", 2, 4096, 40),
    ("4", "m1.large", 4, 8192, 80),
    ("5", "m1.xlarge", 8, 16384, 160),
)
COMPUTE_QUOTAS = ("instances", "cores", "ram", "key_pairs", "metadata_items", "server_groups", "server_group_members")
NETWORK_QUOTAS = ("network", "subnet", "port", "router", "floatingip", "security_group", "security_group_rule")
VOLUME_QUOTAS = ("volumes", "gigabytes", "snapshots", "backups", "backup_gigabytes", "per_volume_gigabytes")

Told = Callable[[str], None]


class FirstThings:
    """Makes them with the admin's token."""

    def __init__(self, ground: EmbeddedGround, told: Told) -> None:
        self.ground = ground
        self.told = told
        self.token = ""
        self.project_id = ""

    async def make(self) -> None:
        """All of it."""
        await self._log_in()
        await self._flavors()
        await self._public_network()
        await self._image()
        await self._quotas()

    async def ask(self, mount: str, method: str, path: str, json: Any = None) -> Any:
        """The JSON answer of one service to the admin."""
        client = self.ground.client(mount)
        return (await client.request(method, path, token=self.token, json=json)).json()

    async def _log_in(self) -> None:
        user = {"name": "admin", "domain": {"id": "default"}, "password": self.ground.secrets.admin_password}
        scope = {"project": {"name": "admin", "domain": {"id": "default"}}}
        auth = {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}
        reply = await self.ground.client("/identity").request("POST", "/v3/auth/tokens", json={"auth": auth})
        self.token = reply.headers["x-subject-token"]
        self.project_id = reply.json()["token"]["project"]["id"]

    async def _flavors(self) -> None:
        known = {flavor["id"] for flavor in (await self.ask("/compute", "GET", "/v2.1/flavors"))["flavors"]}
        for id_, name, vcpus, ram, disk in FLAVORS:
            if id_ not in known:
                flavor = {"id": id_, "name": name, "vcpus": vcpus, "ram": ram, "disk": disk}
                await self.ask("/compute", "POST", "/v2.1/flavors", {"flavor": flavor})

    async def _public_network(self) -> None:
        path = f"/v2.0/networks?name={PUBLIC}&router:external=true"
        if (await self.ask("/network", "GET", path))["networks"]:
            return
        network = {
            "name": PUBLIC,
            "router:external": True,
            "shared": False,
            "provider:network_type": "flat",
            "provider:physical_network": "public",
        }
        made = (await self.ask("/network", "POST", "/v2.0/networks", {"network": network}))["network"]
        start = self.ground.choices.public_cidr.split("/", maxsplit=1)[0].rpartition(".")[0]
        subnet = {
            "name": f"{PUBLIC}-subnet",
            "network_id": made["id"],
            "ip_version": 4,
            "cidr": self.ground.choices.public_cidr,
            "gateway_ip": f"{start}.1",
            "enable_dhcp": False,
            "allocation_pools": [{"start": f"{start}.10", "end": f"{start}.250"}],
        }
        await self.ask("/network", "POST", "/v2.0/subnets", {"subnet": subnet})
        self.told(f"network {PUBLIC} ({self.ground.choices.public_cidr}) is there")

    async def _image(self) -> None:
        found = (await self.ask("/image", "GET", f"/v2/images?name={IMAGE}&status=active"))["images"]
        if found:
            return
        path, disk_format = await self._guest()
        image = {
            "name": IMAGE,
            "visibility": "public",
            "disk_format": disk_format,
            "container_format": "bare",
            "min_ram": 96,
            "hw_rng_model": "virtio",
            "os_type": "linux",
        }
        made = await self.ask("/image", "POST", "/v2/images", image)
        await self._upload(self.ground.client("/image"), made["id"], path)
        self.told(f"image {IMAGE} is registered")

    async def _guest(self) -> tuple[Path, str]:
        """The guest's disk; for a fake hypervisor, which boots nothing, an empty one."""
        directory = self.ground.state.directory / "guest"
        if self.ground.choices.hypervisor == "fake":
            directory.mkdir(exist_ok=True)
            blank = directory / "blank.raw"
            await self.ground.world.blocking(blank.write_bytes, bytes(MIB))
            return blank, "raw"
        from kilonova.node.guest.build import build_guest

        def build() -> Path:
            return build_guest(directory, cache_directory(), told=self.told).disk

        return await self.ground.world.blocking(build), "qcow2"

    async def _upload(self, client: Client, image_id: str, path: Path) -> None:
        data = await self.ground.world.blocking(path.read_bytes)
        headers = {"content-type": "application/octet-stream"}
        await client.send_bytes("PUT", f"/v2/images/{image_id}/file", data, token=self.token, headers=headers)

    async def _quotas(self) -> None:
        """The admin's project has no limits."""
        wanted = (
            ("/compute", f"/v2.1/os-quota-sets/{self.project_id}", "quota_set", COMPUTE_QUOTAS),
            ("/network", f"/v2.0/quotas/{self.project_id}", "quota", NETWORK_QUOTAS),
            ("/volume", f"/v3/os-quota-sets/{self.project_id}", "quota_set", VOLUME_QUOTAS),
        )
        for mount, path, envelope, names in wanted:
            known = (await self.ask(mount, "GET", path))[envelope]
            unlimited = {name: -1 for name in names if name in known}
            if any(known[name] != -1 for name in unlimited):
                await self.ask(mount, "PUT", path, {envelope: unlimited})
