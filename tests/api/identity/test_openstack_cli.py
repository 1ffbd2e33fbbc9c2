"""The unmodified `openstack` client against identity over real HTTP: what people type first."""

from __future__ import annotations

import asyncio
import io
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import redirect_stdout
from typing import Any

import pytest
import uvicorn

from kilonova.http.app import Mounts
from kilonova.identity.bootstrap import Plan, bootstrap, endpoint_plans
from tests.api.identity.support import ADMIN_PASSWORD, DEMO_PASSWORD, Cloud

shell = pytest.importorskip("openstackclient.shell", reason="needs python-openstackclient: pip install .[client]")
Run = Callable[..., Any]


@pytest.fixture
async def port(cloud: Cloud) -> AsyncIterator[int]:
    """Identity under /identity on a loopback port; the catalog says so."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        urls = endpoint_plans({"identity": f"http://127.0.0.1:{port}/identity/v3"})
        await bootstrap(cloud.service, Plan(ADMIN_PASSWORD, urls, user_password=DEMO_PASSWORD))
        config = uvicorn.Config(Mounts({"/identity": cloud.app}), log_level="error", lifespan="off")
        server = uvicorn.Server(config)
        serving = asyncio.get_running_loop().create_task(server.serve([listening]))
        while not server.started:  # noqa: ASYNC110  (uvicorn has no event to wait for)
            await asyncio.sleep(0.01)
        yield port
        server.should_exit = True
        await serving


def _run(port: int, user: str, password: str, command: str, as_json: bool) -> Any:
    """What `openstack COMMAND` prints."""
    options = ["--os-auth-url", f"http://127.0.0.1:{port}/identity", "--os-username", user, "--os-password", password]
    options += ["--os-user-domain-id", "default", "--os-identity-api-version", "3"]
    if "--os-system-scope" not in command:
        options += ["--os-project-name", user, "--os-project-domain-id", "default"]
    printed = io.StringIO()
    with redirect_stdout(printed):
        client = shell.OpenStackShell()
        client.stdout = printed
        code = client.run([*options, *command.split(), *(["-f", "json"] if as_json else [])])
    assert code == 0, f"openstack {command}: {code} {printed.getvalue()[-2000:]}"
    return json.loads(printed.getvalue()) if as_json else printed.getvalue()


async def test_what_an_administrator_types(port: int, cloud: Cloud) -> None:
    async def openstack(command: str, as_json: bool = True) -> Any:
        return await asyncio.to_thread(_run, port, "admin", ADMIN_PASSWORD, command, as_json)

    token = await openstack("token issue")
    assert token["project_id"] == cloud.made.admin_project_id and token["user_id"] == cloud.made.admin_user_id
    project = await openstack("project create lab --description blue --tag x")
    assert (project["name"], project["description"], project["tags"]) == ("lab", "blue", ["x"])
    user = await openstack("user create --project lab --password secret --email a@b.c ada")
    assert user["name"] == "ada" and user["default_project_id"] == project["id"]
    await openstack("role add --user ada --project lab member", as_json=False)
    given = await openstack("role assignment list --names --user ada --effective")
    assert {(row["Role"], row["User"], row["Project"]) for row in given} == {
        ("member", "ada@Default", "lab@Default"),
        ("reader", "ada@Default", "lab@Default"),
    }
    assert {row["Name"] for row in await openstack("role list")} == {"admin", "manager", "member", "reader", "service"}
    assert {row["Name"] for row in await openstack("user list")} == {"admin", "demo", "nova", "ada"}
    catalog = await openstack("catalog list")
    assert {row["Type"] for row in catalog} == {"identity", "volumev3"}
    service = await openstack("service create --name designate dns")
    endpoint = await openstack("endpoint create --region RegionOne dns public http://dns/")
    assert endpoint["service_id"] == service["id"]
    await openstack("user set --disable ada", as_json=False)
    assert (await openstack("user show ada"))["enabled"] is False
    await openstack("group create crew")
    await openstack("group add user crew ada", as_json=False)
    assert (await openstack("domain list"))[0]["ID"] == "default"
    await openstack("user delete ada", as_json=False)
    await openstack("project delete lab", as_json=False)
    system = await openstack("--os-system-scope all token issue")
    assert "project_id" not in system


async def test_what_a_user_types(port: int) -> None:
    async def openstack(command: str, as_json: bool = True) -> Any:
        return await asyncio.to_thread(_run, port, "demo", DEMO_PASSWORD, command, as_json)

    made = await openstack("application credential create ci --role reader")
    made = {key.lower(): value for key, value in made.items()}
    assert made["secret"] and [role["name"] for role in made["roles"]] == ["reader"]
    assert [row["Name"] for row in await openstack("application credential list")] == ["ci"]
    await openstack("application credential delete ci", as_json=False)
    assert [row["Name"] for row in await openstack("project list --my-projects")] == ["demo"]
    await openstack(f"user password set --password new --original-password {DEMO_PASSWORD}", False)
