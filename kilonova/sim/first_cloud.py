"""The databases of a new whole cloud with what users need first, made once per process and copied for every run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from kilonova.db.migrations import upgrade
from kilonova.sim.loop import run
from kilonova.sim.whole_cloud import SCHEMAS, WholeCloud
from kilonova.sim.whole_machines import IMAGE_BYTES


@dataclass(frozen=True)
class FirstCloud:
    """Databases as bytes, images, and the ids of what is there."""

    databases: dict[str, bytes]
    files: dict[str, bytes]
    image_id: str
    network_id: str
    public_id: str


@cache
def first_cloud() -> FirstCloud:
    """A cloud with flavors, an image, a network behind a router, and a public network."""
    return run(_make(WholeCloud(0, {})), 0)


async def _make(cloud: WholeCloud) -> FirstCloud:
    for name, migrations in SCHEMAS.items():
        await cloud.databases[name].write(upgrade, migrations)
    await cloud.start_all()
    await cloud.user.clock.sleep(15)
    for id_, name, vcpus, ram, disk in (("1", "m1.tiny", 1, 512, 1), ("2", "m1.small", 1, 2048, 20)):
        flavor = {"id": id_, "name": name, "vcpus": vcpus, "ram": ram, "disk": disk}
        await _post(cloud, "compute", "/v2.1/flavors", {"flavor": flavor})
    image_id = await _image(cloud)
    public_id, network_id = await _networks(cloud)
    await cloud.user.clock.sleep(15)
    databases = {name: db.image() for name, db in cloud.databases.items()}
    return FirstCloud(databases, dict(cloud.store.images), image_id, network_id, public_id)


async def _post(cloud: WholeCloud, mount: str, path: str, body: Any, token: str = "admin") -> Any:
    return (await cloud.client(cloud.user, mount).request("POST", path, token=token, json=body)).json()


async def _image(cloud: WholeCloud) -> str:
    wanted = {"name": "cirros", "visibility": "public", "disk_format": "raw", "container_format": "bare"}
    image_id: str = (await _post(cloud, "image", "/v2/images", wanted))["id"]
    headers = {"content-type": "application/octet-stream"}
    client = cloud.client(cloud.user, "image")
    await client.send_bytes("PUT", f"/v2/images/{image_id}/file", bytes(IMAGE_BYTES), token="admin", headers=headers)
    return image_id


async def _networks(cloud: WholeCloud) -> tuple[str, str]:
    """(public network, the member's network); a router joins them."""
    public = {
        "name": "public",
        "router:external": True,
        "provider:network_type": "flat",
        "provider:physical_network": "public",
    }
    public_id = (await _post(cloud, "network", "/v2.0/networks", {"network": public}))["network"]["id"]
    subnet = {"network_id": public_id, "ip_version": 4, "cidr": "203.0.113.0/24", "enable_dhcp": False}
    await _post(cloud, "network", "/v2.0/subnets", {"subnet": subnet})
    own = await _post(cloud, "network", "/v2.0/networks", {"network": {"name": "own"}}, "member")
    network_id = own["network"]["id"]
    inner = {"network_id": network_id, "ip_version": 4, "cidr": "10.0.0.0/24"}
    made = await _post(cloud, "network", "/v2.0/subnets", {"subnet": inner}, "member")
    router = {"name": "r", "external_gateway_info": {"network_id": public_id}}
    router_id = (await _post(cloud, "network", "/v2.0/routers", {"router": router}, "member"))["router"]["id"]
    leg = {"subnet_id": made["subnet"]["id"]}
    path = f"/v2.0/routers/{router_id}/add_router_interface"
    await cloud.client(cloud.user, "network").request("PUT", path, token="member", json=leg)
    return public_id, network_id
