"""One cluster: every service a process of its own; a server becomes ACTIVE; a conductor dies amid builds."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import time
import tomllib
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import aio_pika
import httpx
import pytest

from kilonova.base.faults import Fault, Kind
from kilonova.base.world import LiveWorld
from kilonova.bus.amqp import AmqpBus
from kilonova.bus.amqp_link import Access
from kilonova.bus.contract import Target
from tests.cluster.cloud_rig import APIS, Cluster, cluster
from tests.services import PostgreSQL, RabbitMQ, trusting_tests

pytestmark = pytest.mark.cluster

CONTROL = [
    *((name, "node0") for name in APIS),
    ("conductor", "node0"),
    ("conductor", "node9"),
    ("scheduler", "node0"),
    ("scheduler", "node9"),
    ("network-worker", "node0"),
    ("volume-scheduler", "node0"),
    ("trace-collector", "node0"),
]
AGENTS = [
    ("l3-agent", "node0"),
    ("dhcp-agent", "node0"),
    ("metadata-agent", "node0"),
    ("compute-agent", "node1"),
    ("l2-agent", "node1"),
    ("volume-agent", "node1"),
]
QUEUES = {
    *("conductor", "scheduler", "scheduler.node0", "compute", "compute.node1", "compute.node2"),
    *("q-plugin", "q-plugin.node0", "l2_agent.node1", "l2_agent.node2", "l3_agent.node0", "dhcp_agent.node0"),
    *("cinder-scheduler", "cinder-volume", "cinder-volume.node1@files", "trace"),
}

PARTICIPANTS = {"nova_api", "nova_conductor", "nova_scheduler", "nova_compute", "placement", "neutron", "glance"}


def wait(what: str, seconds: float, look: Callable[[], Any]) -> Any:
    """What `look` answers once it is true."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.1)
    return found


@pytest.fixture(scope="module")
def cloud(rabbitmq: RabbitMQ, postgresql: PostgreSQL) -> Iterator[Cluster]:
    with cluster(rabbitmq, postgresql) as made:
        assert "identity       applied: m0001" in made.run("db", "upgrade")
        made.run("db", "check")
        made.start(*CONTROL, *AGENTS)
        made.start(("compute", "node2", "--join", made.invite("node2")))  # the group: both agents in one process
        yield made
        assert made.stop() == {}, "every process leaves politely"


@pytest.fixture(scope="module")
def furnished(cloud: Cluster) -> Any:
    """The member's connection, once there is a flavor, an image and two hosts."""
    admin = cloud.sdk("admin")
    admin.compute.create_flavor(name="tiny", vcpus=1, ram=64, disk=1)
    bare = {"disk_format": "raw", "container_format": "bare", "visibility": "public"}
    image = admin.image.create_image(name="blank", **bare, data=bytes(1 << 20))
    assert admin.image.get_image(image.id).status == "active"
    wait("two hosts", 60, lambda: len(list(admin.compute.hypervisors())) == 2)
    member = cloud.sdk("demo")
    network = member.network.create_network(name="private")
    member.network.create_subnet(network_id=network.id, cidr="10.9.0.0/24", ip_version=4)
    return member


@pytest.fixture
def member(furnished: Any) -> Iterator[Any]:
    """The same; the servers that a test made are deleted after it, so that the quota is whole for the next."""
    yield furnished
    left = list(furnished.compute.servers())
    for one in left:
        furnished.compute.delete_server(one)
    for one in left:
        furnished.compute.wait_for_delete(one, interval=0.2, wait=60)


def build(member: Any, name: str) -> Any:
    image, network = member.image.find_image("blank"), member.network.find_network("private")
    flavor = member.compute.find_flavor("tiny")
    wanted = {"name": name, "image_id": image.id, "flavor_id": flavor.id, "networks": [{"uuid": network.id}]}
    return member.compute.create_server(**wanted)


def test_a_server_becomes_active(cloud: Cluster, member: Any) -> None:
    server = build(member, "first")
    server = member.compute.wait_for_server(server, interval=0.2, wait=60)
    assert server.status == "ACTIVE"
    assert server.addresses["private"][0]["addr"].startswith("10.9.0.")
    wait("its whole trace", 30, lambda: participants(cloud, server.id) >= PARTICIPANTS)


def participants(cloud: Cluster, id_: str) -> set[str]:
    """Who takes part in the drawn creation, as far as the collector heard of it."""
    try:
        drawn = cloud.run("trace", id_, "--format", "wsd")
    except AssertionError:  # nothing of it has come yet
        return set()
    return {name for name in PARTICIPANTS if name in drawn}


def test_a_volume_is_made_by_its_agent(member: Any) -> None:
    volume = member.block_storage.create_volume(name="data", size=1)
    assert member.block_storage.wait_for_status(volume, "available", interval=0.2, wait=60).status == "available"


def test_queues_have_the_names_that_operators_know(cloud: Cluster, member: Any) -> None:
    assert set(cloud.broker.queues()) >= QUEUES


def test_status_lists_every_worker(cloud: Cluster, member: Any) -> None:
    workers = json.loads(cloud.run("status", "--json"))["workers"]
    assert {one["state"] for one in workers} == {"up"}
    known = {(one["binary"], one["host"]) for one in workers}
    assert {("nova-compute", "node1"), ("nova-compute", "node2"), ("kilonova-l3-agent", "node0")} <= known


def test_doctor_finds_every_worker_and_balanced_books(cloud: Cluster, member: Any) -> None:
    said = cloud.run("doctor")
    assert "all is well" in said
    assert "nothing leaves a machine in clear" in said
    assert "node1 never joined and holds the whole cluster's secrets" in said
    assert "node2 never joined" not in said


def test_a_host_that_joined_builds_and_holds_nothing_more(cloud: Cluster, member: Any) -> None:
    home = cloud.config_of("node2").parent
    held = json.loads((home / "secrets.json").read_text())
    assert set(held["bus_keys"]) == {"compute", "compute.node2", "l2_agent", "l2_agent.node2"}
    assert set(held) == {"bus_keys", "service_passwords"}
    assert set(held["service_passwords"]) == {"agent-node2"}
    settings = tomllib.loads(cloud.config_of("node2").read_text())["cluster"]
    assert urlsplit(settings["brokers"][0]).username == "agent-node2"
    assert "database" not in settings
    assert {(home / name).stat().st_mode & 0o777 for name in ("secrets.json", "cluster.toml")} == {0o600}
    assert on_host(cloud, member, "node2").status == "ACTIVE"
    refused = cloud.refused("service", "conductor", config=cloud.config_of("node2"))
    assert "holds the secrets of one host" in refused


def test_an_invitation_works_once_and_only_as_what_it_says(cloud: Cluster) -> None:
    config = cloud.directory / "node5" / "cluster.toml"
    line = cloud.invite("node5")
    refused = cloud.refused("service", "volume-agent", "--join", line, config=config)
    assert "lets node5 run as compute, not as volume-agent" in refused
    assert "not the whole of one" in cloud.refused("service", "compute", "--join", line[:-9], config=config)
    newer = cloud.invite("node5")
    assert "is not known here" in cloud.refused("service", "compute", "--join", line, config=config)
    cloud.start(("l2-agent", "node5", "--join", newer))  # no compute agent: a host that went would get servers still
    assert "lets one host join once" in cloud.refused("service", "compute", "--join", newer, config=config)
    cloud.leave("l2-agent", "node5")
    assert "node5 is out" in cloud.run("host", "expel", "node5")
    assert "could not be found" in cloud.refused("host", "expel", "node5", config=cloud.config)


def test_a_renewed_certificate_is_served_without_a_restart(cloud: Cluster) -> None:
    port = urlsplit(tomllib.loads(cloud.config.read_text())["cluster"]["endpoints"]["identity"]).port
    before = ssl.get_server_certificate(("127.0.0.1", port or 0))
    cloud.certify("renew", "node0")
    assert ssl.get_server_certificate(("127.0.0.1", port or 0)) == before
    cloud.processes["identity-api", "node0"].send_signal(signal.SIGHUP)
    wait("the new one", 20, lambda: ssl.get_server_certificate(("127.0.0.1", port or 0)) != before)
    assert cloud.sdk("admin").identity.get_user(cloud.sdk("admin").current_user_id).name == "admin"


def test_a_host_cannot_ask_as_another_or_about_anothers_server(cloud: Cluster, member: Any) -> None:
    """Neither with its own user on the broker, nor with a control process's."""
    server = on_host(cloud, member, "node1")
    held = json.loads((cloud.config_of("node2").parent / "secrets.json").read_text())["bus_keys"]
    own = {name: bytes.fromhex(key) for name, key in held.items()}
    mine = tomllib.loads(cloud.config_of("node2").read_text())["cluster"]["brokers"][0]

    async def ask(speaker: str, keys: dict[str, bytes], host: str, url: str = mine) -> Kind:
        world = LiveWorld("attacker")
        bus = AmqpBus(world, [url], speaker, keys, Access(as_host=url == mine, tls=trusting_tests()))
        try:
            await bus.call(
                Target("nova", "conductor"),
                "server_for_host",
                {"host": host, "server_id": server.id},
                timeout_seconds=3,
            )
        except Fault as fault:
            return fault.kind
        finally:
            await bus.close()
            await world.close()
        raise AssertionError("it was answered")

    assert asyncio.run(ask("compute.node2", own, "node1")) is Kind.FORBIDDEN
    assert asyncio.run(ask("compute.node2", own, "node2")) is Kind.NOT_FOUND
    assert asyncio.run(ask("compute.node1", own, "node1")) is Kind.FORBIDDEN, "it has no key to speak as node1"
    for url in (mine, cloud.broker.url):
        forged = {"compute.node1": own["compute.node2"]}
        assert asyncio.run(ask("compute.node1", forged, "node1", url)) is Kind.UNAVAILABLE, (
            "nobody answers a forged call"
        )
        assert asyncio.run(ask("conductor", {"control": own["compute"]}, "node1", url)) is Kind.UNAVAILABLE


def test_what_a_hosts_stolen_secrets_open(cloud: Cluster, member: Any) -> None:
    """A108: with all that node2 holds, nothing of node1's, of other tenants, or of the cloud's administration."""
    server = on_host(cloud, member, "node1")
    port = next(member.network.ports(device_id=server.id))
    held = json.loads((cloud.config_of("node2").parent / "secrets.json").read_text())
    secret = held["service_passwords"]["agent-node2"]
    domain = {"id": "default"}
    who = {"password": {"user": {"name": "agent-node2", "domain": domain, "password": secret}}, "methods": ["password"]}
    scope = {"project": {"name": "service", "domain": domain}}
    at = tomllib.loads(cloud.config.read_text())["cluster"]["endpoints"]
    with httpx.Client(verify=trusting_tests(), trust_env=False) as web:
        login = web.post(f"{at['identity']}/v3/auth/tokens", json={"auth": {"identity": who, "scope": scope}})
        headers = {"x-auth-token": login.headers["x-subject-token"]}

        def status(mount: str, path: str, method: str = "GET", **more: Any) -> int:
            return web.request(method, at[mount] + path, headers=headers, **more).status_code

        seen = web.get(f"{at['network']}/v2.0/ports", headers=headers).json()["ports"]
        assert port.id not in {one["id"] for one in seen}
        assert {one["binding:host_id"] for one in seen} <= {"node2"}
        stolen = {"port": {"binding:host_id": "node2"}}
        assert status("network", f"/v2.0/ports/{port.id}", "PUT", json=stolen) == 404
        assert status("network", f"/v2.0/ports/{port.id}", "DELETE") == 404
        for mount, path in (
            ("compute", f"/v2.1/servers/{server.id}"),
            ("compute", "/v2.1/servers/detail?all_tenants=1"),
            ("compute", "/v2.1/os-services"),
            ("network", "/v2.0/networks"),
            ("volume", "/v3/volumes/detail?all_tenants=1"),
            ("placement", "/resource_providers"),
            ("identity", "/v3/users"),
            ("identity", "/v3/credentials"),
        ):
            assert status(mount, path) == 403, path
        events = {"events": [{"name": "network-vif-plugged", "server_uuid": server.id, "tag": port.id}]}
        assert status("compute", "/v2.1/os-server-external-events", "POST", json=events) == 403
    mine = tomllib.loads(cloud.config_of("node2").read_text())["cluster"]["brokers"][0]
    assert asyncio.run(refused_queues(mine, "compute.node1", "conductor", "q-plugin", "trace")) == 4


async def refused_queues(url: str, *names: str) -> int:
    """How many of these queues the broker does not let this user read."""
    refused = 0
    for name in names:
        connection = await aio_pika.connect(url, ssl_context=trusting_tests())
        channel = await connection.channel()
        try:
            await (await channel.get_queue(name, ensure=False)).get(fail=False)
        except aio_pika.exceptions.ChannelClosed as error:
            refused += "ACCESS_REFUSED" in str(error)
        await connection.close()
    return refused


def on_host(cloud: Cluster, member: Any, host: str) -> Any:
    """A server that came to be on this host, because the others are disabled meanwhile."""
    admin = cloud.sdk("admin")
    others = [one for one in admin.compute.services(binary="nova-compute") if one.host != host]
    for one in others:
        admin.compute.disable_service(one)
    made = member.compute.wait_for_server(build(member, f"on-{host}"), interval=0.3, wait=90)
    for one in others:
        admin.compute.enable_service(one)
    assert admin.compute.get_server(made.id).hypervisor_hostname == host
    return made


def test_control_processes_are_not_root(cloud: Cluster) -> None:
    if not cloud.user:
        pytest.skip("root: needs it, and a Python and a tree that `nobody` can read")
    assert [one for one in CONTROL if cloud.user_of(*one) == 0] == []
    assert {cloud.user_of(*one) for one in AGENTS} == {os.geteuid()}


def test_two_conductors_and_two_schedulers_share_the_work(cloud: Cluster, member: Any) -> None:
    before = work_done(cloud)
    for made in [build(member, f"shared-{number}") for number in range(6)]:
        assert member.compute.wait_for_server(made, interval=0.3, wait=90).status == "ACTIVE"
    did = {copy: count - before[copy] for copy, count in work_done(cloud).items()}
    for service in ("conductor", "scheduler"):
        shares = [count for copy, count in did.items() if copy.startswith(service)]
        assert min(shares) >= max(2, sum(shares) // 4), did


def work_done(cloud: Cluster) -> dict[str, int]:
    """Messages that each conductor and scheduler took: builds and what hosts ask, choices. The broker deals them in
    turn, whatever they are, so that builds alone may fall on one copy for a while."""
    copies = [(service, host) for service in ("conductor", "scheduler") for host in ("node0", "node9")]
    return {
        f"{service} {host}": sum(cloud.handled(service, host, service, verb) for verb in ("cast", "call"))
        for service, host in copies
    }


def test_a_conductor_killed_during_builds_is_taken_over_and_the_trace_shows_it(cloud: Cluster, member: Any) -> None:
    """The hosts hang until the conductor is dead, so that it dies amid its operations whatever the machine's speed."""
    hosts = (("compute-agent", "node1"), ("compute", "node2"))
    before = cloud.handled("conductor", "node9", "conductor", "cast")
    cloud.pause(*hosts)
    try:
        built = [build(member, f"during-{number}") for number in range(6)]
        wait("the conductor has some", 30, lambda: cloud.handled("conductor", "node9", "conductor", "cast") > before)
        wait("all have a host", 30, lambda: all(one.hypervisor_hostname for one in these(cloud, built)))
        cloud.kill("conductor", "node9")
    finally:
        cloud.go_on(*hosts)

    def ended() -> list[str] | None:
        found = these(cloud, built)
        return [one.status for one in found] if all(not one.task_state for one in found) else None

    assert wait("all at an end", 90, ended) == ["ACTIVE"] * 6
    drawn = wait("their traces", 30, lambda: [text for one in built if (text := takeover(cloud, one.id))])
    assert any("nova_conductor@node0" in text or "nova_conductor\\nnode0" in text for text in drawn), drawn[0]


def these(cloud: Cluster, built: list[Any]) -> list[Any]:
    """The servers as the admin sees them now."""
    admin = cloud.sdk("admin")
    return [admin.compute.get_server(one.id) for one in built]


def takeover(cloud: Cluster, id_: str) -> str:
    """The drawn creation when another conductor went on with it; else ""."""
    try:
        drawn = cloud.run("trace", id_, "--format", "wsd")
    except AssertionError:  # nothing of it has come yet
        return ""
    return drawn if "node0 takes over from node9, whose lease ended" in drawn else ""
