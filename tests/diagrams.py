"""`make diagrams`: every operation once, on a cloud without guests, drawn from the trace that the run left.

Writes output/SERVICE/VERB.{txt,svg,mmd,wsd}. Arguments choose: `make diagrams ARGS="compute/create_server"`.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kilonova.cli.trace import with_login
from kilonova.trace.collect import SpanStore
from kilonova.trace.draw import SUFFIXES, draw
from kilonova.trace.spans import Span
from kilonova.trace.unfold import from_spans
from tests.bench.load import Driver
from tests.fake_cloud import ROOT, FakeCloud, fake_cloud

FORMATS = ("text", "svg", "mermaid", "wsd")
SETTLE_SECONDS = 20.0


@dataclass
class Told:
    """An operation of the story: its request id, by which its trace is found again."""

    service: str
    verb: str
    request_id: str


class Story:
    """A user's afternoon, one operation after the other."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.told: list[Told] = []

    async def ask(self, name: str, method: str, path: str, json: Any = None, data: bytes = b"") -> Any:
        """Ask, and remember under `service/verb`."""
        headers = {"X-Auth-Token": self.driver.token, "OpenStack-API-Version": "compute 2.90, volume 3.44"}
        if data:
            headers["Content-Type"] = "application/octet-stream"
        answer = await self.driver.send(method, path, json=json, data=data or None, headers=headers)
        if answer.status >= 400:
            raise RuntimeError(f"{name}: {answer.status} {answer.content[:300]!r}")
        self.told.append(Told(*name.split("/"), answer.headers["x-openstack-request-id"]))
        is_json = answer.headers.get("content-type", "").startswith("application/json")
        return answer.json() if is_json else None

    async def until(self, path: str, field: Callable[[Any], bool]) -> None:
        """Returns when the answer is so."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < deadline:
            if field(await self.driver.ask("GET", path)):
                return
            await asyncio.sleep(0.05)
        raise RuntimeError(f"{path} did not settle in {SETTLE_SECONDS} s")

    async def gone(self, path: str) -> None:
        """Returns when it answers 404."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < deadline:
            answer = await self.driver.send("GET", path, headers={"X-Auth-Token": self.driver.token})
            if answer.status == 404:
                return
            await asyncio.sleep(0.05)
        raise RuntimeError(f"{path} is still there after {SETTLE_SECONDS} s")

    async def login(self) -> None:
        """identity/login."""
        driver = self.driver
        answer = await driver.send("POST", "/identity/v3/auth/tokens", json=driver.credentials())
        self.told.append(Told("identity", "login", answer.headers["x-openstack-request-id"]))
        driver.token = answer.headers["X-Subject-Token"]

    async def image(self) -> None:
        """image/create, upload, delete."""
        body = {"name": "drawn", "disk_format": "raw", "container_format": "bare"}
        made = await self.ask("image/create", "POST", "/image/v2/images", body)
        await self.ask("image/upload", "PUT", f"/image/v2/images/{made['id']}/file", data=b"\0" * 65536)
        await self.ask("image/delete", "DELETE", f"/image/v2/images/{made['id']}")

    async def volume(self) -> None:
        """block_storage: a volume made, extended, deleted."""
        made = await self.ask(
            "block_storage/create_volume", "POST", "/volume/v3/volumes", {"volume": {"name": "drawn", "size": 1}}
        )
        path = f"/volume/v3/volumes/{made['volume']['id']}"
        await self.until(path, lambda shown: shown["volume"]["status"] == "available")
        await self.ask("block_storage/extend_volume", "POST", f"{path}/action", {"os-extend": {"new_size": 2}})
        await self.until(path, lambda shown: shown["volume"]["size"] == 2)
        await self.until(path, lambda shown: shown["volume"]["status"] == "available")
        await self.ask("block_storage/delete_volume", "DELETE", path)
        await self.gone(path)

    async def network(self) -> dict[str, str]:
        """network: network, subnet, router with its way out and its leg; what the server needs."""
        base = "/network/v2.0"
        made = await self.ask("network/create_network", "POST", f"{base}/networks", {"network": {"name": "drawn"}})
        network_id = made["network"]["id"]
        subnet = {"network_id": network_id, "ip_version": 4, "cidr": "10.77.0.0/24"}
        subnet_id = (await self.ask("network/create_subnet", "POST", f"{base}/subnets", {"subnet": subnet}))["subnet"][
            "id"
        ]
        public = (await self.driver.ask("GET", f"{base}/networks?router:external=true"))["networks"][0]["id"]
        router = {"name": "drawn", "external_gateway_info": {"network_id": public}}
        router_id = (await self.ask("network/create_router", "POST", f"{base}/routers", {"router": router}))["router"][
            "id"
        ]
        leg = {"subnet_id": subnet_id}
        await self.ask("network/add_router_interface", "PUT", f"{base}/routers/{router_id}/add_router_interface", leg)
        return {"network": network_id, "subnet": subnet_id, "public": public, "router": router_id}

    async def server(self, network_id: str, port_of: Callable[[str], Awaitable[None]]) -> None:
        """compute: a server made, given a floating IP, stopped, started, deleted."""
        wanted = {"name": "drawn", "imageRef": self.driver.image, "flavorRef": "1", "networks": [{"uuid": network_id}]}
        made = await self.ask("compute/create_server", "POST", "/compute/v2.1/servers", {"server": wanted})
        path = f"/compute/v2.1/servers/{made['server']['id']}"
        await self.until(path, lambda shown: shown["server"]["status"] == "ACTIVE")
        await port_of(made["server"]["id"])
        await self.plug(path, network_id)
        await self.ask("compute/create_image", "POST", f"{path}/action", {"createImage": {"name": "drawn"}})
        await self.until(path, lambda shown: shown["server"]["OS-EXT-STS:task_state"] is None)
        backup = {"createBackup": {"name": "drawn", "backup_type": "daily", "rotation": 1}}
        await self.ask("compute/create_backup", "POST", f"{path}/action", backup)
        await self.until(path, lambda shown: shown["server"]["OS-EXT-STS:task_state"] is None)
        for verb, status in (("stop", "SHUTOFF"), ("start", "ACTIVE")):
            await self.ask(f"compute/{verb}_server", "POST", f"{path}/action", {f"os-{verb}": None})
            await self.until(path, lambda shown, wanted=status: shown["server"]["status"] == wanted)
        await self.daily(path)
        await self.resizes(path)
        await self.ask("compute/delete_server", "DELETE", path)
        await self.gone(path)

    async def daily(self, path: str) -> None:
        """compute: what is done to a server that stays, and a group for others."""
        group = {"server_group": {"name": "drawn", "policy": "anti-affinity"}}
        made = await self.ask("compute/create_server_group", "POST", "/compute/v2.1/os-server-groups", group)
        one = f"/compute/v2.1/os-server-groups/{made['server_group']['id']}"
        await self.ask("compute/delete_server_group", "DELETE", one)
        for name, body, status in (
            ("reboot_soft_server", {"reboot": {"type": "SOFT"}}, "ACTIVE"),
            ("reboot_hard_server", {"reboot": {"type": "HARD"}}, "ACTIVE"),
            ("pause_server", {"pause": None}, "PAUSED"),
            ("unpause_server", {"unpause": None}, "ACTIVE"),
            ("suspend_server", {"suspend": None}, "SUSPENDED"),
            ("resume_server", {"resume": None}, "ACTIVE"),
            ("rescue_server", {"rescue": None}, "RESCUE"),
            ("unrescue_server", {"unrescue": None}, "ACTIVE"),
            ("change_password", {"changePassword": {"adminPass": "another"}}, "ACTIVE"),
            ("trigger_crash_dump", {"trigger_crash_dump": None}, "ACTIVE"),
        ):
            await self.ask(f"compute/{name}", "POST", f"{path}/action", body)
            await self.until(path, lambda shown, wanted=status: shown["server"]["status"] == wanted)

    async def plug(self, path: str, network_id: str) -> None:
        """compute: a volume and a port into the server and out again."""
        made = await self.driver.ask("POST", "/volume/v3/volumes", {"volume": {"name": "plugged", "size": 1}})
        volume = f"/volume/v3/volumes/{made['volume']['id']}"
        await self.until(volume, lambda shown: shown["volume"]["status"] == "available")
        body = {"volumeAttachment": {"volumeId": made["volume"]["id"]}}
        await self.ask("compute/attach_volume", "POST", f"{path}/os-volume_attachments", body)
        await self.until(volume, lambda shown: shown["volume"]["status"] == "in-use")
        one = f"{path}/os-volume_attachments/{made['volume']['id']}"
        await self.gone_after(lambda: self.ask("compute/detach_volume", "DELETE", one), one)
        await self.driver.ask("DELETE", volume)
        nic = {"interfaceAttachment": {"net_id": network_id}}
        port = await self.ask("compute/attach_interface", "POST", f"{path}/os-interface", nic)
        one = f"{path}/os-interface/{port['interfaceAttachment']['port_id']}"
        await self.gone_after(lambda: self.ask("compute/detach_interface", "DELETE", one), one)

    async def gone_after(self, act: Callable[[], Awaitable[Any]], path: str) -> None:
        """`act`, then until what it takes away is gone."""
        await act()
        await self.gone(path)

    async def resizes(self, path: str) -> None:
        """compute: a server resized and reverted, resized and confirmed, rebuilt."""
        for action, status in (
            ("resize", "VERIFY_RESIZE"),
            ("revertResize", "ACTIVE"),
            ("resize", "VERIFY_RESIZE"),
            ("confirmResize", "ACTIVE"),
            ("rebuild", "ACTIVE"),
        ):
            body = {"resize": {"flavorRef": "2"}, "rebuild": {"imageRef": self.driver.image}}.get(action)
            name = {"resize": "resize_server", "rebuild": "rebuild_server"}.get(action, action.replace("R", "_r"))
            await self.ask(f"compute/{name}", "POST", f"{path}/action", {action: body})
            await self.until(path, lambda shown, wanted=status: shown["server"]["status"] == wanted)

    async def whole(self) -> None:
        """Everything, in the order in which each stands on the one before."""
        await self.login()
        await self.image()
        await self.volume()
        made = await self.network()
        base = "/network/v2.0"

        async def float_it(server_id: str) -> None:
            port = (await self.driver.ask("GET", f"{base}/ports?device_id={server_id}"))["ports"][0]["id"]
            body = {"floatingip": {"floating_network_id": made["public"], "port_id": port}}
            floating_ip = (await self.ask("network/create_floating_ip", "POST", f"{base}/floatingips", body))[
                "floatingip"
            ]
            await self.ask("network/delete_floating_ip", "DELETE", f"{base}/floatingips/{floating_ip['id']}")

        await self.server(made["network"], float_it)
        leg = {"subnet_id": made["subnet"]}
        path = f"{base}/routers/{made['router']}"
        await self.ask("network/remove_router_interface", "PUT", f"{path}/remove_router_interface", leg)
        await self.ask("network/delete_router", "DELETE", path)
        await self.ask("network/delete_subnet", "DELETE", f"{base}/subnets/{made['subnet']}")
        await self.ask("network/delete_network", "DELETE", f"{base}/networks/{made['network']}")


def write(spans: list[Span], service: str, verb: str) -> None:
    """The operation's diagram in every format."""
    folder = ROOT / "output" / service
    folder.mkdir(parents=True, exist_ok=True)
    diagram = from_spans(spans)
    for format_ in FORMATS:
        (folder / f"{verb}.{SUFFIXES[format_]}").write_bytes(draw(diagram, format_))


async def tell(cloud: FakeCloud) -> list[Told]:
    """Run the story; what it did."""
    driver = Driver(cloud)
    await driver.prepare()
    story = Story(driver)
    await story.whole()
    await driver.close()
    await asyncio.sleep(2)  # the last spans are on their way to the collector
    return story.told


def main() -> int:
    """0 when every chosen operation was drawn."""
    chosen = set(sys.argv[1:])
    undrawn = []
    with (
        tempfile.TemporaryDirectory(prefix="kilonova-diagrams-") as folder,
        fake_cloud(Path(folder) / "state") as cloud,
    ):
        told = asyncio.run(tell(cloud))
        store = SpanStore(cloud.state / "db/trace.sqlite")
        for one in told:
            name = f"{one.service}/{one.verb}"
            if chosen and name not in chosen:
                continue
            spans = with_login(store, store.find(one.request_id))
            if not spans:
                undrawn.append(name)
                continue
            write(spans, one.service, one.verb)
            print(f"output/{name}.{{{','.join(SUFFIXES[each] for each in FORMATS)}}}  {len(spans)} spans")
        store.close()
    if undrawn:
        print(f"no trace of {', '.join(undrawn)}", file=sys.stderr)
    return 1 if undrawn else 0


if __name__ == "__main__":
    sys.exit(main())
