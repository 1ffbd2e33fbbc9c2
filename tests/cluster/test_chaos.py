"""kill -9 in the middle of 20 builds, on machines with real guests: everything comes to an end, nothing leaks.

The guests that are built stop their processor in the first instruction, so that the machine's time is the cloud's.
One guest beside them runs Linux and is pinged from outside all the time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from kilonova.node.hypervisor.libvirtd import PrivateLibvirtd
from tests.cluster.__main__ import guest
from tests.cluster.machines import Machines, Shape, machines
from tests.cluster.member import associate, boot, furnish_project, make_key, ssh, wait, wait_for_hosts
from tests.cluster.watch import Asker, Client, Ping
from tests.real import cloud_rig

pytestmark = [
    pytest.mark.root,
    pytest.mark.guest,
    pytest.mark.cluster,
    pytest.mark.full,
    pytest.mark.skipif(bool(cloud_rig.missing()), reason=f"needs a machine for real clouds: {cloud_rig.missing()}"),
]
BUILDS, DOWN_SECONDS, END_SECONDS, CALM_SECONDS = 20, 10, 60, 5
HALTS = (b"\xfa\xf4\xeb\xfd" + bytes(506) + b"\x55\xaa").ljust(1 << 20, b"\0")  # a boot sector: cli, hlt, jmp to hlt


@dataclass(frozen=True)
class Scene:
    """A cluster, what is built there, and the guest that is watched."""

    cloud: Machines
    address: str  # of the witness
    witness: str  # its server's id
    build: dict[str, Any]  # the body of a build, without its name

    def guests(self) -> list[str]:
        """The server ids of all QEMU processes of the cluster, one for each process."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().decode(errors="replace").split("\0")
            except OSError:  # it ended
                continue
            if "-uuid" in words and str(self.cloud.directory) in " ".join(words):
                found.append(words[words.index("-uuid") + 1])
        return sorted(found)

    def differing(self, servers: dict[str, dict[str, Any]]) -> list[str]:
        """Servers whose guest does not run once, and guests that no active server has."""
        active = [self.witness, *(id_ for id_, one in servers.items() if one["status"] == "ACTIVE")]
        running = self.guests()
        odd = {id_ for id_ in {*active, *running} if running.count(id_) != active.count(id_)}
        return [f"{id_}: {running.count(id_)} guests; {servers.get(id_)}; {self.told(id_)}" for id_ in sorted(odd)]

    def told(self, id_: str) -> str:
        """What the processes logged about a server."""
        logs = sorted(self.cloud.directory.glob("*.log"))
        return "\n".join(f"{log.name}: {line}" for log in logs for line in log.read_text().splitlines() if id_ in line)

    def taps(self) -> int:
        """How many guests' interfaces the compute hosts hold."""
        total = 0
        for node in self.cloud.land.computes:
            line = node.inside("ip", "-details", "-oneline", "link")
            total += subprocess.run(line, capture_output=True, text=True, check=True).stdout.count("tun type tap")
        return total


@pytest.fixture(scope="module")
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    with machines(Shape(real=True, hosts=2, database=request.param)) as cloud:
        cloud.furnish(*guest(cloud.directory, real=True))
        admin, member = cloud.sdk("admin"), cloud.sdk("demo")
        kind = {"disk_format": "raw", "container_format": "bare", "visibility": "public"}
        image = admin.image.create_image(name="halts", **kind, data=HALTS)
        project = admin.identity.find_project("demo")
        admin.compute.update_quota_set(project.id, instances=50, cores=50, ram=50 * 256)
        wait_for_hosts(cloud)
        make_key(cloud)
        network, group = furnish_project(member)
        witness = boot(cloud, network.id, group.id, "node1")
        address = associate(member, witness)
        wait("ssh from outside", 150, lambda: ssh(cloud, address, "true").returncode == 0)
        flavor = member.compute.find_flavor("tiny")
        build = {"imageRef": image.id, "flavorRef": flavor.id, "networks": [{"uuid": network.id}]}
        yield Scene(cloud, address, witness.id, build)


Act = Callable[[Machines], None]


def process(*keys: str) -> tuple[Act, Act]:
    """Kill these processes; start them again."""
    return lambda cloud: cloud.kill(*keys), lambda cloud: cloud.start(*keys)


def kill_libvirtd(cloud: Machines) -> None:
    place = cloud.directory / "node1" / "hosts" / "node1" / "v"
    os.kill(PrivateLibvirtd(str(place), "node1").pid(), signal.SIGKILL)


def agent_revives(_cloud: Machines) -> None:
    """The host's agent starts its libvirt by itself."""


VICTIMS: dict[str, tuple[Act, Act]] = {
    "conductor": process("conductor@ctl1"),
    "scheduler": process("scheduler@ctl1"),
    "compute-api": process("compute-api@ctl1"),
    "compute-agent": process("compute-agent@node1"),
    "libvirtd": (kill_libvirtd, agent_revives),
    "rabbitmq": (lambda cloud: cloud.broker.kill(), lambda cloud: void(cloud.broker.start())),
    "database": (lambda cloud: cloud.server.kill(), lambda cloud: void(cloud.server.start())),
}


def void(_: object) -> None:
    """Nothing."""


CASES = [*(("postgresql", victim) for victim in VICTIMS), ("mariadb", "database")]


@pytest.mark.parametrize(("scene", "victim"), CASES, indirect=["scene"], scope="module")
def test_killed_amid_twenty_builds(scene: Scene, victim: str) -> None:
    kill, revive = VICTIMS[victim]
    client, asking = Client(scene.cloud), Client(scene.cloud)
    client.log_in()
    with Ping(scene.cloud, scene.address) as ping, Asker(asking) as asker:
        asked = ask_for_builds(scene, client, victim, kill)
        time.sleep(DOWN_SECONDS)
        revive(scene.cloud)
        back = time.monotonic()
        ended = all_at_an_end(scene, client, back + END_SECONDS)
        took = time.monotonic() - back
        time.sleep(max(0.0, back + CALM_SECONDS + 3 - time.monotonic()))
    seen = f"{len(asker.wrong)} of {asker.asked} questions failed; {len(ping.lost)} of {ping.sent} pings lost"
    print(f"{victim}: {asked} accepted, {summary(ended)}, all at an end {took:.1f} s after it was back; {seen}")
    assert asker.since(back + CALM_SECONDS) == []
    assert ping.sent > 20
    assert ping.lost == []
    assert [one for one in ended.values() if one["status"] == "ERROR" and not one["fault"]["message"]] == []
    assert scene.differing(ended) == []
    wait(  # what was undone while services were away is tried again
        "doctor finds nothing stuck or leaked", back + END_SECONDS - time.monotonic(), lambda: is_well(scene.cloud)
    )
    remove(scene, client, list(ended))
    asking.close()
    client.close()


def ask_for_builds(scene: Scene, client: Client, name: str, kill: Act) -> int:
    """Ask for 20 servers; the kill comes when the first are active and others are not. How many were accepted."""
    accepted = 0

    def ask(number: int) -> int:
        try:
            body = {"server": {**scene.build, "name": f"{name}-{number}"}}
            return int(client.ask("POST", "/compute/v2.1/servers", body).status_code == 202)
        except httpx.HTTPError:
            return 0

    for number in range(BUILDS - 4):
        accepted += ask(number)
    wait("the first is active", 60, lambda: statuses(client).count("ACTIVE") > 1, every_seconds=0.2)
    kill(scene.cloud)
    for number in range(BUILDS - 4, BUILDS):
        accepted += ask(number)
    return accepted


def statuses(client: Client) -> list[str]:
    return [one["status"] for one in client.servers().values()]


def all_at_an_end(scene: Scene, client: Client, until: float) -> dict[str, dict[str, Any]]:
    """The servers that were built, once none of them has anything under way."""
    while True:
        try:
            found = client.servers()
        except httpx.HTTPError as error:
            assert time.monotonic() < until, f"the API does not answer: {error!r}"
            time.sleep(0.5)
            continue
        found.pop(scene.witness)
        under_way = {
            one["name"]: (one["status"], one["OS-EXT-STS:task_state"])
            for one in found.values()
            if one["OS-EXT-STS:task_state"] or one["status"] not in ("ACTIVE", "ERROR")
        }
        if not under_way:
            return found
        assert time.monotonic() < until, f"not at an end: {under_way}"
        time.sleep(0.5)


def summary(ended: dict[str, dict[str, Any]]) -> str:
    reasons = [one["fault"]["message"] for one in ended.values() if one["status"] == "ERROR"]
    return f"{len(ended) - len(reasons)} active, {len(reasons)} in error {sorted(set(reasons))}"


def is_well(cloud: Machines) -> bool:
    """Whether the operator's doctor finds nothing wrong: nothing stuck, the books of the cluster balance."""
    said = cloud.run(cloud.land.controller, "doctor", check=False)
    print(said)
    return "all is well" in said


def remove(scene: Scene, client: Client, ids: list[str]) -> None:
    """Delete them all: nothing of them is left on the hosts or in the books."""
    for id_ in ids:
        assert client.ask("DELETE", f"/compute/v2.1/servers/{id_}").status_code == 204
    wait("all are gone", 90, lambda: list(client.servers()) == [scene.witness])
    wait("no guest is left", 30, lambda: scene.guests() == [scene.witness])
    ports = client.ask("GET", "/network/v2.0/ports").json()["ports"]
    assert {one["device_id"] for one in ports if one["device_owner"].startswith("compute")} == {scene.witness}
    wait("no tap is left", 30, lambda: scene.taps() == 1)
    assert is_well(scene.cloud)
