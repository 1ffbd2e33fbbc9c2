"""Two clouds of one machine that chance gave the same names build real networks beside each other."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kilonova.cli import state
from kilonova.node.vswitch import namespace
from tests.collisions import directories_that_collide
from tests.real.cloud_rig import Cloud, missing

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}")]


@pytest.fixture
def clouds() -> Iterator[tuple[Cloud, Cloud]]:
    place = Path(tempfile.mkdtemp(prefix="kn", dir="/var/tmp"))
    place.chmod(0o711)
    one, other = (
        Cloud(
            directory,
            "--hypervisor",
            "fake",
            "--network",
            "linux",
            "--listen",
            f"127.0.0.1:{state.free_port('127.0.0.1', first)}",
        )
        for directory, first in zip(directories_that_collide(place), (17300, 17400), strict=True)
    )
    try:
        yield one, other
    finally:
        left = []
        for cloud in (one, other):
            cloud.run("down", "--purge", check=False)
            left += cloud.left_behind()
        shutil.rmtree(place)
        assert not left, left


def test_clouds_whose_names_would_meet_live_side_by_side(clouds: tuple[Cloud, Cloud]) -> None:
    one, other = clouds
    one.up()
    other.up()
    assert one.prefix != other.prefix
    for cloud in clouds:
        sdk = cloud.sdk("kilonova-admin")
        network = sdk.network.create_network(name="own")
        sdk.network.create_subnet(network_id=network.id, ip_version=4, cidr="10.1.0.0/24", name="own")
        server = sdk.compute.create_server(name="s", image_id=sdk.image.find_image("cirros").id, flavor_id="1",
                                           networks=[{"uuid": network.id}])  # fmt: skip
        sdk.compute.wait_for_server(server, wait=60)
    before = set(namespace.names(other.prefix))
    one.run("down", "--purge")
    assert one.left_behind() == []
    assert set(namespace.names(other.prefix)) == before != set()
    assert other.status()["cloud"]["ready"]
