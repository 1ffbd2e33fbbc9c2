"""One noun through everything: a flavor at two microversions, in process and over HTTP, with identity's own tokens.

The same requests must give the same answers through both doors, and the unmodified `openstack` client must read them.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn

from kilonova.http.app import Mounts
from kilonova.http.client import AsgiTransport, Client, HttpTransport, Reply, Transport
from kilonova.identity.bootstrap import Plan, bootstrap, endpoint_plans
from kilonova.identity.validator import TokenValidator
from tests.api.compute.support import compute_api
from tests.api.identity.support import ADMIN_PASSWORD, DEMO_PASSWORD, Cloud, project
from tests.api.identity.support import cloud as make_cloud

FLAVOR = {"name": "m1.proof", "id": "42", "ram": 192, "vcpus": 1, "disk": 1, "description": "proof"}
OLD, NEW = "2.1", "2.102"
ONLY_OLD = {"OS-FLV-DISABLED:disabled", "rxtx_factor"}
ONLY_NEW = {"description", "extra_specs"}


@dataclass
class Room:
    """Identity and compute behind one port, and the same two without any."""

    port: int
    cloud: Cloud
    doors: dict[str, Transport]

    async def send(self, door: str, token: str, version: str, method: str, path: str, body: Any = None) -> Reply:
        headers = {"x-auth-token": token, "openstack-api-version": f"compute {version}"}
        content = b"" if body is None else json.dumps(body).encode()
        return await self.doors[door].send(method, f"/compute/v2.1{path}", headers, content)

    async def openstack(self, user: str, version: str, command: str, as_json: bool = True) -> Any:
        password = ADMIN_PASSWORD if user == "admin" else DEMO_PASSWORD
        return await _run(self.port, (user, password), version, command, as_json)


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    async with make_cloud() as cloud:
        validator = TokenValidator(cloud.service.world, Client(AsgiTransport(cloud.app)))
        async with compute_api(validator) as compute:
            with socket.socket() as listening:
                listening.bind(("127.0.0.1", 0))
                port: int = listening.getsockname()[1]
                base = f"http://127.0.0.1:{port}"
                urls = endpoint_plans({"identity": f"{base}/identity/v3", "compute": f"{base}/compute/v2.1"})
                await bootstrap(cloud.service, Plan(ADMIN_PASSWORD, urls, user_password=DEMO_PASSWORD))
                mounts = Mounts({"/identity": cloud.app, "/compute": compute.app})
                server = uvicorn.Server(uvicorn.Config(mounts, log_level="error", lifespan="off"))
                serving = asyncio.get_running_loop().create_task(server.serve([listening]))
                while not server.started:  # noqa: ASYNC110  (uvicorn has no event to wait for)
                    await asyncio.sleep(0.01)
                http = HttpTransport(base)
                yield Room(port, cloud, {"in process": AsgiTransport(mounts, origin=base), "http": http})
                await http.close()
                server.should_exit = True
                await serving


async def _run(port: int, who: tuple[str, str], version: str, command: str, as_json: bool) -> Any:
    """What `openstack COMMAND` prints. A process of its own: in one process the client remembers who asked first."""
    pytest.importorskip("openstackclient.shell", reason="needs python-openstackclient: pip install .[client]")
    user, password = who
    options = ["--os-auth-url", f"http://127.0.0.1:{port}/identity", "--os-username", user, "--os-password", password]
    options += ["--os-user-domain-id", "default", "--os-project-name", user, "--os-project-domain-id", "default"]
    options += ["--os-compute-api-version", version, *command.split(), *(["-f", "json"] if as_json else [])]
    client = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "openstackclient.shell", *options, stdout=PIPE, stderr=PIPE
    )
    printed, told = await asyncio.wait_for(client.communicate(), 60)
    assert client.returncode == 0, f"openstack {command}: {told.decode()[-2000:]}"
    return json.loads(printed) if as_json else printed.decode()


async def test_two_microversions_through_two_doors(room: Room) -> None:
    admin = await room.cloud.login("admin", ADMIN_PASSWORD, project("admin"))
    demo = await room.cloud.login("demo", DEMO_PASSWORD, project("demo"))
    made = await room.send("http", admin, NEW, "POST", "/flavors", {"flavor": FLAVOR})
    assert made.status == 200, made.content
    shown: dict[str, Any] = {}
    for version in (OLD, NEW):
        replies = {door: await room.send(door, demo, version, "GET", "/flavors/42") for door in room.doors}
        assert {reply.status for reply in replies.values()} == {200}
        assert replies["http"].json() == replies["in process"].json()
        assert replies["http"].headers["openstack-api-version"] == f"compute {version}"
        shown[version] = replies["http"].json()["flavor"]
    assert set(shown[OLD]) - set(shown[NEW]) == ONLY_OLD and set(shown[NEW]) - set(shown[OLD]) == ONLY_NEW
    assert (shown[OLD]["swap"], shown[NEW]["swap"], shown[NEW]["description"]) == ("", 0, "proof")
    assert shown[NEW] == made.json()["flavor"]
    for door in room.doors:
        refused = await room.send(door, demo, NEW, "DELETE", "/flavors/42")
        assert refused.status == 403 and refused.json()["forbidden"]["code"] == 403
        assert (await room.send(door, "forged", NEW, "GET", "/flavors/42")).status == 401
        assert (await room.send(door, demo, "2.999", "GET", "/flavors/42")).status == 406


async def test_the_openstack_client_reads_it(room: Room) -> None:
    command = "flavor create m1.proof --id 42 --ram 192 --disk 1 --vcpus 1 --description proof --property hw:a=1"
    made = await room.openstack("admin", "2.61", command)
    assert (made["name"], made["ram"], made["description"]) == ("m1.proof", 192, "proof")
    new = await room.openstack("demo", "2.61", "flavor show m1.proof")
    assert (new["id"], new["description"], new["properties"]) == ("42", "proof", {"hw:a": "1"})
    old = await room.openstack("demo", "2.54", "flavor show m1.proof")  # it fetches what 2.54 keeps apart
    assert old["description"] is None and old["ram"] == 192 and old["properties"] == {"hw:a": "1"}
    assert [row["Name"] for row in await room.openstack("demo", "2.61", "flavor list")] == ["m1.proof"]
    await room.openstack("admin", "2.61", "flavor delete m1.proof", as_json=False)
    assert await room.openstack("demo", "2.61", "flavor list") == []
