"""The unmodified `openstack` client against block storage over real HTTP, with real tokens."""

from __future__ import annotations

import asyncio
import io
import json
import socket
from collections.abc import AsyncIterator
from contextlib import redirect_stdout
from typing import Any

import pytest
import uvicorn

from kilonova.base.world import LiveWorld
from kilonova.block_storage.core import BlockStorage
from kilonova.block_storage.scheduler import Scheduler
from kilonova.block_storage.service import MIGRATIONS, RULES, block_storage_app
from kilonova.bus.memory import MemoryBroker, MemoryBus
from kilonova.db.inline import InlineDatabase
from kilonova.db.migrations import ensure_current
from kilonova.http.app import Mounts
from kilonova.identity.bootstrap import Plan, bootstrap, endpoint_plans
from kilonova.identity.validator import TokenValidator
from kilonova.node.agents.volume import Peers, VolumeHostAgent, VolumeWorker
from kilonova.node.volumes.fake import FakePool, FakeVolumeBackend
from kilonova.policy.rules import Policy
from tests.api.identity.support import ADMIN_PASSWORD, DEMO_PASSWORD, Cloud
from tests.api.identity.support import cloud as make_cloud
from tests.laws.storage import SEALER, OneImage, own_token

sdk = pytest.importorskip("openstack", reason="needs openstacksdk: pip install .[client]")
shell = pytest.importorskip("openstackclient.shell", reason="needs python-openstackclient: pip install .[client]")
PASSWORDS = {"admin": ADMIN_PASSWORD, "demo": DEMO_PASSWORD}


async def _start_storage(world: LiveWorld, cloud: Cloud) -> Any:
    """Block storage with all its processes in this one."""
    db, images, broker = InlineDatabase("cinder", world.clock), OneImage(), MemoryBroker()
    await ensure_current(db, MIGRATIONS)
    await Scheduler(world, db, MemoryBus(world, broker, "cinder-scheduler"), SEALER).start()
    bus = MemoryBus(world, broker, "cinder-volume.node1@files")
    backend = FakeVolumeBackend(world, FakePool("files"))
    agent = VolumeHostAgent(world, bus, "node1@files", backend, Peers(images, images, own_token))
    await VolumeWorker(world, bus, InlineDatabase("ledger", world.clock), agent).start()
    service = BlockStorage(world, db, MemoryBus(world, broker, "cinder-api"), SEALER, images)
    return block_storage_app(service, TokenValidator(world, cloud.client), Policy(RULES))


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """Identity and block storage on one loopback port; the catalog says so."""
    world = LiveWorld("storage-test")
    async with make_cloud() as cloud:
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            port: int = listening.getsockname()[1]
            base = f"http://127.0.0.1:{port}"
            urls = endpoint_plans({"identity": f"{base}/identity/v3", "volumev3": f"{base}/volume/v3/$(project_id)s"})
            await bootstrap(cloud.service, Plan(ADMIN_PASSWORD, urls, user_password=DEMO_PASSWORD))
            apps = Mounts({"/identity": cloud.app, "/volume": await _start_storage(world, cloud)})
            server = uvicorn.Server(uvicorn.Config(apps, log_level="error", lifespan="off"))
            serving = asyncio.get_running_loop().create_task(server.serve([listening]))
            while not server.started:  # noqa: ASYNC110  (uvicorn has no event to wait for)
                await asyncio.sleep(0.01)
            yield port
            server.should_exit = True
            await serving
    await world.close()


def _run(port: int, user: str, command: str) -> Any:
    """What `openstack COMMAND` prints, read as JSON when it shows something."""
    options = ["--os-auth-url", f"http://127.0.0.1:{port}/identity", "--os-username", user]
    options += ["--os-password", PASSWORDS[user], "--os-project-name", user, "--os-identity-api-version", "3"]
    options += ["--os-user-domain-id", "default", "--os-project-domain-id", "default"]
    shows = not any(word in command.split() for word in ("set", "delete", "unset"))
    printed = io.StringIO()
    with redirect_stdout(printed):
        client = shell.OpenStackShell()
        client.stdout = printed
        code = client.run([*options, *command.split(), *(["-f", "json"] if shows else [])])
    assert code == 0, f"openstack {command}: {code} {printed.getvalue()[-2000:]}"
    return json.loads(printed.getvalue()) if shows else None


async def test_what_people_type(port: int) -> None:
    async def openstack(command: str) -> Any:
        # One user per process: the client keeps its first session for good.
        return await asyncio.to_thread(_run, port, "demo", command)

    async def until(name: str, status: str, noun: str = "volume") -> Any:
        while (shown := await openstack(f"{noun} show {name}"))["status"] != status:
            assert shown["status"] != "error", shown
            await asyncio.sleep(0.1)
        return shown

    assert (await openstack("volume type list --default"))[0]["Name"] == "__DEFAULT__"
    made = await openstack("volume create --size 2 --description blue --property a=b data")
    assert (made["status"], made["size"], made["type"]) == ("creating", 2, "__DEFAULT__")
    shown = await until("data", "available")
    assert (shown["properties"], shown["description"]) == ({"a": "b"}, "blue")
    assert [row["Name"] for row in await openstack("volume list")] == ["data"]
    await openstack("volume set --name more --size 3 data")
    assert (await until("more", "available"))["size"] == 3
    await openstack("volume create --size 3 --source more copy")
    await until("copy", "available")
    assert (await openstack("volume summary"))["Total Count"] == 2
    await openstack("volume attachment list --os-volume-api-version 3.27")
    await openstack("volume snapshot create --volume more --property k=v moment")
    snapshot = await until("moment", "available", "volume snapshot")
    assert (snapshot["size"], snapshot["properties"]) == (3, {"k": "v"})
    assert [row["Name"] for row in await openstack("volume snapshot list")] == ["moment"]
    await openstack("volume create --snapshot moment restored")
    assert (await until("restored", "available"))["snapshot_id"] == snapshot["id"]
    await openstack("volume delete restored")
    await openstack("volume snapshot delete moment")
    while await openstack("volume snapshot list"):  # noqa: ASYNC110  (what a person does)
        await asyncio.sleep(0.1)
    quota = await openstack("quota show --volume")
    assert {row["Resource"]: row["Limit"] for row in quota}["gigabytes"] == 1000
    await openstack("volume delete more copy")
    while await openstack("volume list"):  # noqa: ASYNC110  (what a person does)
        await asyncio.sleep(0.1)


def _administer(port: int) -> dict[str, Any]:
    """What an administrator's script sees through the SDK."""
    auth = {"auth_url": f"http://127.0.0.1:{port}/identity", "username": "admin", "password": ADMIN_PASSWORD}
    domains = {"project_name": "admin", "user_domain_id": "default", "project_domain_id": "default"}
    storage = sdk.connect(**auth, **domains, load_envvars=False, load_yaml_config=False).block_storage
    storage.create_type(name="fast", extra_specs={"volume_backend_name": "files"})
    return {
        "types": {one.name for one in storage.types()},
        "services": {(one.binary, one.state) for one in storage.services()},
        "pools": [one.name for one in storage.backend_pools()],
    }


async def test_what_an_administrators_script_does(port: int) -> None:
    seen = await asyncio.to_thread(_administer, port)
    assert seen["types"] == {"__DEFAULT__", "fast"}
    assert seen["services"] == {("cinder-scheduler", "up"), ("cinder-volume", "up")}
    assert seen["pools"] == ["node1@files#files"]
