"""`kilonova explain` and `kilonova could-boot`, of a whole cloud: what an operator reads, and what a tenant does."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.api.clients.conftest import Client
from tests.fake_cloud import FakeCloud, fake_cloud

# A host of this cloud has 20,480,000 MB.
WHALE_MB = 16_000_000


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeCloud]:
    """Two hosts, a flavor of which each holds one, a flavor of which none holds any, and no quota in the way."""
    with fake_cloud(tmp_path_factory.mktemp("explain") / "state", "--hosts", "2") as made:
        admin = Client(made, member=False)
        admin.do("quota set --ram -1 --cores -1 --instances -1 demo")
        admin.do(f"flavor create --ram {WHALE_MB} --disk 1 --vcpus 1 whale")
        admin.do(f"flavor create --ram {2 * WHALE_MB} --disk 1 --vcpus 1 kraken")
        yield made


@pytest.fixture(scope="module")
def image(member: Client) -> str:
    return str(member("image list")[0]["Name"])


def test_a_server_that_found_a_host(cloud: FakeCloud, member: Client, image: str) -> None:
    server = member(f"server create --image {image} --flavor m1.tiny --nic none --wait small")
    told = cloud.door("explain", "small")
    host = json.loads(cloud.door("explain", server["id"], "--json"))[0]["host"]
    assert f"server small ({server['id']}): ACTIVE on {host}" in told
    assert f"went to    {host}" in told
    assert "asked for  flavor m1.tiny: VCPU 1, MEMORY_MB 512, DISK_GB 1" in told
    assert "hosts left Placement 2, ComputeFilter 2" in told
    assert "snapshot " in told and "WEIGHT" in told
    assert "went to" in cloud.door("explain", json.loads(cloud.door("explain", "small", "--json"))[0]["request_id"])


def test_one_that_found_none(cloud: FakeCloud, member: Client, image: str) -> None:
    member.do(f"server create --image {image} --flavor kraken --nic none large")
    fault = member.until("server show large", "status", "ERROR")["fault"]["message"]
    assert f"needs {2 * WHALE_MB} MB of memory, the largest free is " in fault
    assert "Flavor whale would fit." in fault
    told = cloud.door("explain", "large")
    assert f"nowhere    {fault}" in told
    hosts = [row["Hypervisor Hostname"] for row in Client(cloud, member=False)("hypervisor list")]
    for host in hosts:
        assert host not in fault, "no host names for tenants"
        assert f"{host}" in told
    assert f"no room for {2 * WHALE_MB} MB of memory (free: " in told and "ratio 1)" in told


def test_would_forty_fit(cloud: FakeCloud, member: Client, image: str) -> None:
    before = Client(cloud, member=False)("server list --all-projects")
    told = cloud.door("could-boot", "40", "whale", "--image", image, check=False)
    assert told.startswith("2 of 40 servers of flavor whale fit now")
    assert f"The next is stopped: No valid host was found. The server needs {WHALE_MB} MB of memory" in told
    assert "REJECTED" in told.upper() and "no room for" in told
    assert cloud.door("could-boot", "2", "whale").startswith("2 of 2 servers"), "nothing was claimed"
    assert json.loads(cloud.door("could-boot", "1", "m1.tiny", "--json"))["fits"] == 1
    assert Client(cloud, member=False)("server list --all-projects") == before


@pytest.mark.parametrize("words", [("could-boot", "1", "no-such"), ("could-boot", "1", "m1.tiny", "--hint", "x"),
                                   ("explain", "no-such"), ("could-boot", "0", "m1.tiny")])  # fmt: skip
def test_what_cannot_be_answered_is_said(cloud: FakeCloud, words: tuple[str, ...]) -> None:
    with pytest.raises(RuntimeError, match=r": 1\n"):
        cloud.door(*words)
