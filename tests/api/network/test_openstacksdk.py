"""The public SDK, unmodified, over real HTTP: what users' tools do every day."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn

from tests.api.network.cloud import Cloud, until

openstack = pytest.importorskip("openstack", reason="needs openstacksdk (pip install .[client])")


@pytest.fixture
async def url(hosted: Cloud) -> AsyncIterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(hosted.app, log_level="warning", lifespan="off"))
        serving = asyncio.ensure_future(server.serve(sockets=[listener]))
        await until(lambda: server.started)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        await serving


def connect(url: str, token: str) -> Any:
    from keystoneauth1.session import Session
    from keystoneauth1.token_endpoint import Token

    return openstack.connection.Connection(session=Session(auth=Token(url, token)))


def story(url: str, outside_id: str) -> dict[str, Any]:
    """A tenant's afternoon."""
    net = connect(url, "member").network
    network = net.create_network(name="blue")
    subnet = net.create_subnet(network_id=network.id, cidr="10.0.0.0/24", ip_version=4, name="blue4")
    group = net.create_security_group(name="web")
    net.create_security_group_rule(
        security_group_id=group.id, direction="ingress", protocol="tcp", port_range_min=80, port_range_max=80
    )
    port = net.create_port(network_id=network.id, security_groups=[group.id], name="p")
    router = net.create_router(name="r", external_gateway_info={"network_id": outside_id})
    net.add_interface_to_router(router, subnet_id=subnet.id)
    floating = net.create_ip(floating_network_id=outside_id, port_id=port.id)
    seen = {
        "found": net.find_network("blue").id == network.id,
        "ports": [one.id for one in net.ports(network_id=network.id, name="p")],
        "port": port.id,
        "fixed": (floating.fixed_ip_address, port.fixed_ips[0]["ip_address"]),
        "by address": net.find_ip(floating.floating_ip_address).id == floating.id,
        "extension": net.find_extension("security-group").alias,
        "quota": net.get_quota(details=False, quota="1" * 32).networks,
    }
    net.set_tags(network, ["prod"])
    seen["tagged"] = [one.name for one in net.networks(tags="prod")]
    net.update_ip(floating, port_id=None)
    net.delete_ip(floating)
    net.remove_interface_from_router(router, subnet_id=subnet.id)
    for delete, noun in ((net.delete_router, router), (net.delete_port, port), (net.delete_network, network)):
        delete(noun, ignore_missing=False)
    net.delete_security_group(group, ignore_missing=False)
    seen["left"] = [one.name for one in net.networks() if not one.is_router_external]
    return seen


async def test_the_sdk_lives_a_tenants_afternoon(hosted: Cloud, url: str) -> None:
    outside, _ = await hosted.outside()
    seen = await asyncio.to_thread(story, url, outside["id"])
    assert seen["found"]
    assert seen["ports"] == [seen["port"]]
    assert seen["fixed"][0] == seen["fixed"][1]
    assert seen["by address"]
    assert seen["extension"] == "security-group"
    assert seen["quota"] == 100
    assert seen["tagged"] == ["blue"]
    assert seen["left"] == []


def agents(url: str) -> list[tuple[str, bool]]:
    return sorted((one.host, one.is_alive) for one in connect(url, "admin").network.agents(binary="kilonova-l2-agent"))


async def test_the_sdk_lists_agents(url: str) -> None:
    assert await asyncio.to_thread(agents, url) == [("node1", True), ("node2", True)]
