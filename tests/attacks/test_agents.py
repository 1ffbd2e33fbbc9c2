"""A108: what agents of a host may do with their user, alone and beside a user: only what is on their host."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import pytest

from kilonova.base.caller import Caller
from kilonova.base.faults import Fault, Kind
from kilonova.block_storage.client import VolumeClient
from kilonova.block_storage.contract import Connector
from kilonova.bus import rpc
from kilonova.bus.contract import Message, Target
from kilonova.bus.memory import MemoryBus
from kilonova.compute.conductor import ComputeConductor
from kilonova.http.app import App
from kilonova.http.client import AsgiTransport, Client
from kilonova.identity.callers import beside_service, caller_of
from kilonova.identity.contract import DomainRef, ProjectRef, RoleRef, TokenInfo, UserRef
from kilonova.network.contract import EXCHANGE, PLUGIN_TOPIC, Plugin
from tests.api.block_storage.test_volumes_api import cloud as volume_cloud
from tests.api.compute.support import compute_api
from tests.api.network.cloud import Cloud
from tests.api.support import api_client
from tests.laws.storage import Storage

SERVER = "462dcc2d-130d-4654-8db1-da0df2da6a0d"


# ── who is an agent


def token_of(name: str, *roles: str, domain: str = "default") -> TokenInfo:
    return TokenInfo(
        user=UserRef("u", name, DomainRef(domain, domain)),
        methods=["password"],
        audit_ids=["a"],
        issued_at="2026-01-01T00:00:00.000000Z",
        expires_at="2026-01-02T00:00:00.000000Z",
        project=ProjectRef("p", "service", DomainRef("default", "Default")),
        roles=[RoleRef(role, role) for role in roles],
    )


def test_an_agent_is_known_by_the_user_that_its_host_was_given() -> None:
    agent = caller_of(token_of("agent-node1", "service"), "t")
    assert (agent.agent_host, agent.is_agent) == ("node1", True)
    for other in (
        token_of("nova", "service", "admin"),
        token_of("agent", "service"),
        token_of("agent-node1", "member"),
        token_of("agent-node1", "service", domain="d2"),
    ):
        assert caller_of(other, "t").agent_host == ""
    beside = beside_service(Caller(user_id="someone"), agent)
    assert (beside.agent_host, beside.is_agent) == ("node1", False)


# ── every door


def test_no_service_lets_agents_do_more_in_their_own_name_than_this() -> None:
    """Whoever opens another route to agents must narrow it to their host, and say so here."""
    from kilonova.block_storage.service import ROUTES as VOLUME
    from kilonova.compute.service import ROUTES as COMPUTE
    from kilonova.identity.service import ROUTES as IDENTITY
    from kilonova.image.service import ROUTES as IMAGE
    from kilonova.network.service import ROUTES as NETWORK
    from kilonova.placement.service import ROUTES as PLACEMENT

    routes = (*IDENTITY, *IMAGE, *PLACEMENT, *COMPUTE, *NETWORK, *VOLUME)
    open_ = {f"{one.method} {one.path.replace('/{owner_project_id}', '')}" for one in routes if one.agents}
    assert sorted(open_) == [
        "DELETE /v2.0/ports/{id}",
        "DELETE /v3/attachments/{attachment_id}",
        "GET /v2.0/ports",
        "GET /v2.0/ports/{id}",
        "GET /v2/images/{image_id}",
        "GET /v2/images/{image_id}/file",
        "GET /v3/attachments/{attachment_id}",
        "GET /v3/auth/tokens",
        "GET /v3/volumes/{volume_id}",
        "HEAD /v3/auth/tokens",
        "POST /v3/attachments/{attachment_id}/action",
        "PUT /v2.0/ports/{id}",
        "PUT /v3/attachments/{attachment_id}",
    ]


# ── ports


@pytest.fixture
async def net() -> Any:
    made = await Cloud().start(2)
    yield made
    await made.close()


async def bound(net: Cloud, host: str) -> dict[str, Any]:
    network = await net.network()
    await net.subnet(network["id"])
    service = api_client(net.app, "service")
    values = {"binding:host_id": host, "device_id": SERVER, "device_owner": "compute:nova"}
    made: dict[str, Any] = await net.port(network["id"], service, project_id=network["project_id"], **values)
    return made


async def test_agents_see_and_change_ports_of_their_host_only(net: Cloud) -> None:
    theirs, mine = await bound(net, "node1"), await bound(net, "node2")
    agent = api_client(net.app, "agent-node2")
    seen = (await agent.get("/v2.0/ports"))["ports"]
    assert mine["id"] in {one["id"] for one in seen}
    assert {one["binding:host_id"] for one in seen} == {"node2"}
    assert (await agent.get(f"/v2.0/ports?device_id={SERVER}&binding:host_id=node1"))["ports"] == []
    await agent.get(f"/v2.0/ports/{mine['id']}")
    one = f"/v2.0/ports/{theirs['id']}"
    await agent.get(one, 404)
    await agent.put(one, {"port": {"binding:host_id": "node2"}}, 404)
    await agent.delete(one, 404)
    own = f"/v2.0/ports/{mine['id']}"
    await agent.put(own, {"port": {"binding:host_id": "node1"}}, 403)
    for more in ({"port_security_enabled": False}, {"mac_address": "fa:16:3e:00:00:01"}, {"security_groups": []}):
        await agent.put(own, {"port": more}, 403)
    await agent.post("/v2.0/ports", {"port": {"network_id": mine["network_id"]}}, 403)
    for path in ("networks", "subnets", "security-groups", "routers", "agents", "floatingips", "quotas"):
        await agent.get(f"/v2.0/{path}", 403)
    freed = {"device_id": "", "device_owner": "", "binding:host_id": ""}
    assert (await agent.put(own, {"port": freed}))["port"]["binding:host_id"] == ""
    await agent.get(own, 404)


async def test_beside_a_users_token_they_bind_to_their_host_only(net: Cloud) -> None:
    network = await net.network()
    await net.subnet(network["id"])
    both = api_client(net.app, "member-by-agent-node2")
    new = {"network_id": network["id"], "binding:host_id": "node1"}
    await both.post("/v2.0/ports", {"port": new}, 403)
    port = (await both.post("/v2.0/ports", {"port": new | {"binding:host_id": "node2"}}, 201))["port"]
    assert port["binding:host_id"] == "node2"
    await both.put(f"/v2.0/ports/{port['id']}", {"port": {"binding:host_id": "node1"}}, 403)
    await net.member.put(f"/v2.0/ports/{port['id']}", {"port": {"binding:host_id": "node2"}}, 403)


# ── volumes


def test_agents_connect_volumes_to_their_host_only() -> None:
    async def work(s: Storage) -> None:
        volumes, volume_id = VolumeClient(Client(AsgiTransport(s.app))), await s.available()
        attachment = await volumes.reserve("server", "key", volume_id, SERVER)
        one, to = f"/v3/attachments/{attachment}", {"attachment": {"connector": {"host": "node1"}}}
        mine, theirs = s.api("agent-node2"), s.api("agent-node1")
        await mine.put(one, to, 403)
        await s.api("member-by-agent-node2").put(one, to, 403)
        await mine.put(one, {"attachment": {"connector": {"host": "node2"}}}, 404)
        await volumes.connect("server", attachment, Connector("node1"), "/dev/vdb")
        await volumes.complete("server", attachment)
        await mine.get(one, 404)
        await mine.put(one, {"attachment": {"connector": {"host": "node2"}}}, 404)
        await mine.delete(one, 404)
        await mine.get(f"/v3/volumes/{volume_id}", 404)
        for path in ("volumes", "volumes/detail", "attachments?all_tenants=1", "snapshots"):
            await mine.get(f"/v3/{path}", 403)
        await mine.post("/v3/volumes", {"volume": {"size": 1}}, 403)
        await mine.delete(f"/v3/volumes/{volume_id}", 403)
        assert (await theirs.put(one, to))["attachment"]["status"] == "attached"
        await theirs.get(f"/v3/volumes/{volume_id}")
        assert s.pools["node1@files"].connectors == {volume_id: {"node1"}}

    volume_cloud(work)


# ── the door itself


async def test_a_route_that_is_not_for_agents_refuses_before_it_does_anything(net: Cloud) -> None:
    app: App = net.app
    agent = api_client(app, "agent-node1")
    before = (await net.admin.get("/v2.0/networks"))["networks"]
    await agent.post("/v2.0/networks", {"network": {"name": "mine"}}, 403)
    assert (await net.admin.get("/v2.0/networks"))["networks"] == before


# ── the bus


async def test_only_a_network_nodes_agents_may_ask_who_has_an_address(net: Cloud) -> None:
    port = await bound(net, "node1")
    asked = (port["network_id"], "", port["fixed_ips"][0]["ip_address"])
    for sender, answered in (("metadata_agent.net9", True), ("l3_agent.net9", True), ("l2_agent.node2", False)):
        bus = MemoryBus(net.world, net.broker, sender)
        plugin = rpc.client(Plugin, bus, Target(EXCHANGE, PLUGIN_TOPIC))
        if answered:
            assert (await plugin.find_device(*asked) or ("",))[0] == SERVER
        else:
            with pytest.raises(Fault) as told:
                await plugin.find_device(*asked)
            assert told.value.kind is Kind.FORBIDDEN
        await bus.close()


async def test_a_host_starts_no_operation_and_opens_no_console() -> None:
    async with compute_api() as api:
        conductor = ComputeConductor(api.compute)
        for sender in ("compute.node1", "l2_agent.node1", "cinder-volume.node1@files"):
            for ask in (
                conductor.check_console("token"),
                conductor.run_operation("operation"),
                conductor.build_instances("operation"),
                conductor.server_for_host("node2", SERVER),
                conductor.servers_to_run("node2"),
                conductor.guests_seen("node2", [], full=True),
            ):
                with pytest.raises(Fault) as told:
                    await asyncio.create_task(ask, context=asked_by(sender))
                assert told.value.kind is Kind.FORBIDDEN
        asked = asyncio.create_task(conductor.check_console("token"), context=asked_by("consoleauth"))
        assert await asked is None


def asked_by(sender: str) -> contextvars.Context:
    """Where a message of `sender` is handled."""
    context = contextvars.copy_context()
    context.run(rpc.handle, Message("id", "nova", "conductor", "", 1, "m", {}, "call", sender, 0.0))
    return context
