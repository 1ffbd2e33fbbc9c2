"""A host that hangs with a thousand attachments under way: the API does not feel it, and they end when it goes on.

https://specs.openstack.org/openstack/nova-specs/ tells of the opposite: workers of the API that wait for a silent host.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from kilonova.compute.server.attach_volume import PATIENCE_SECONDS
from tests.cluster.cloud_rig import APIS, Cluster, cluster
from tests.services import PostgreSQL, RabbitMQ, trusting_tests

pytestmark = [pytest.mark.cluster, pytest.mark.full]
SERVERS, EACH, QUESTIONS = 50, 20, 600
CONTROL = [*((name, "node0") for name in APIS), ("conductor", "node0"), ("conductor", "node9"),
           ("scheduler", "node0"), ("network-worker", "node0"), ("volume-scheduler", "node0")]  # fmt: skip
AGENTS = [("compute-agent", "node1"), ("l2-agent", "node1"), ("volume-agent", "node0"), ("dhcp-agent", "node0")]
HUNG = ("compute-agent", "node1")


@pytest.fixture(scope="module")
def cloud(rabbitmq: RabbitMQ, postgresql: PostgreSQL) -> Iterator[Cluster]:
    with cluster(rabbitmq, postgresql) as made:
        made.run("db", "upgrade")
        made.start(*CONTROL, *AGENTS)
        yield made


class Member:
    """A member with plain HTTP, so that the client's own work does not hide the API's."""

    def __init__(self, cloud: Cluster) -> None:
        sdk = cloud.sdk("demo")
        self._headers = {"x-auth-token": sdk.session.get_token(), "openstack-api-version": "compute 2.90, volume 3.44"}
        self._urls = {kind: sdk.session.get_endpoint(service_type=kind) for kind in ("compute", "block-storage")}
        self._http = httpx.Client(timeout=60, verify=trusting_tests(), trust_env=False)

    def ask(self, method: str, kind: str, path: str, body: Any = None) -> Any:
        """The answer's body; anything but success fails the test."""
        answer = self._http.request(method, f"{self._urls[kind]}{path}", json=body, headers=self._headers)
        assert answer.status_code < 300, f"{method} {path}: {answer.status_code} {answer.text[:200]}"
        return answer.json() if answer.content else None

    def p99_ms(self, server_id: str) -> float:
        """What 99 of 100 questions about a server and its list took at most."""
        took = []
        for number in range(QUESTIONS):
            began = time.monotonic()
            self.ask("GET", "compute", f"/servers/{server_id}" if number % 2 else "/servers?limit=20")
            took.append((time.monotonic() - began) * 1000)
        return sorted(took)[QUESTIONS * 99 // 100]


def test_a_thousand_attachments_to_a_hung_host_do_not_slow_the_api(cloud: Cluster) -> None:
    admin = cloud.sdk("admin")
    admin.compute.create_flavor(name="tiny", vcpus=1, ram=16, disk=1)
    image = admin.image.create_image(
        name="blank", disk_format="raw", container_format="bare", visibility="public", data=bytes(1 << 20)
    )
    project = admin.identity.find_project("demo")
    admin.compute.update_quota_set(project.id, instances=-1, cores=-1, ram=-1)
    admin.block_storage.update_quota_set(project.id, volumes=-1, gigabytes=-1)
    member = Member(cloud)
    flavor = cloud.sdk("demo").compute.find_flavor("tiny").id
    body = {"name": "s", "imageRef": image.id, "flavorRef": flavor, "networks": "none", "min_count": SERVERS}
    member.ask("POST", "compute", "/servers", {"server": body})
    with ThreadPoolExecutor(4) as pool:
        made = pool.map(
            lambda _: member.ask("POST", "block-storage", "/volumes", {"volume": {"size": 1}}), range(SERVERS * EACH)
        )
        volumes = [one["volume"]["id"] for one in made]
        until(300, lambda: counts(member, "block-storage", "volumes") == {"available": SERVERS * EACH})
        until(300, lambda: counts(member, "compute", "servers") == {"ACTIVE": SERVERS})
        servers = [one["id"] for one in member.ask("GET", "compute", "/servers")["servers"]]
        before = member.p99_ms(servers[0])
        pairs = [(servers[number // EACH], volume) for number, volume in enumerate(volumes)]
        cloud.pause(HUNG)
        try:
            began = time.monotonic()
            asked_at = dict(pool.map(lambda pair: attach(member, *pair), pairs))
            asked = time.monotonic() - began
            during = member.p99_ms(servers[0])
            assert counts(member, "block-storage", "volumes").get("in-use", 0) == 0, "the host did not hang"
        finally:
            cloud.go_on(HUNG)
            awake = time.monotonic()
    print(f"p99 {before:.0f} ms before, {during:.0f} ms with {len(pairs)} attachments waiting, asked in {asked:.0f} s")
    assert during <= before * 2 + 50
    until(300, lambda: counts(member, "block-storage", "volumes").keys() <= {"in-use", "available"})
    status = {one["id"]: one["status"] for one in volumes_of(member)}
    held = {volume for server in servers for volume in attached(member, server)}
    assert held == {id_ for id_, one in status.items() if one == "in-use"}, "both services say the same"
    recent = [volume for volume, at in asked_at.items() if awake - at < PATIENCE_SECONDS / 2]
    print(f"{len(held)} of {len(pairs)} attached in the end; {len(recent)} were asked for shortly before the host woke")
    assert recent and held >= set(recent), "only those go back that waited for longer than the patience with a host"


def attach(member: Member, server_id: str, volume_id: str) -> tuple[str, float]:
    """(the volume, when it was asked for)."""
    asked_at = time.monotonic()
    body = {"volumeAttachment": {"volumeId": volume_id}}
    member.ask("POST", "compute", f"/servers/{server_id}/os-volume_attachments", body)
    return volume_id, asked_at


def attached(member: Member, server_id: str) -> list[str]:
    """The volumes that compute says the server has."""
    found = member.ask("GET", "compute", f"/servers/{server_id}/os-volume_attachments")["volumeAttachments"]
    return [one["volumeId"] for one in found]


def volumes_of(member: Member) -> list[dict[str, Any]]:
    """All of them."""
    found: list[dict[str, Any]] = member.ask("GET", "block-storage", "/volumes/detail?limit=1000")["volumes"]
    return found


def counts(member: Member, kind: str, noun: str) -> dict[str, int]:
    """How many of a list are in each status."""
    found: dict[str, int] = {}
    for one in member.ask("GET", kind, f"/{noun}/detail?limit=1000")[noun]:
        found[one["status"]] = found.get(one["status"], 0) + 1
    return found


def until(seconds: float, look: Any) -> None:
    end = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(1)
