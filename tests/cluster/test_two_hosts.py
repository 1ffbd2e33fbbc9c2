"""A cluster of machines with real guests: two hosts, DHCP, metadata, floating IPs, everything through HAProxy.

`make test` runs it on PostgreSQL with one copy of each service; `make test-full` as `make cluster` does by default, on
three hosts with two copies, on both database servers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.cluster.__main__ import guest
from tests.cluster.machines import Machines, Shape, machines
from tests.cluster.member import associate, boot, furnish_project, make_key, ssh, wait, wait_for_hosts
from tests.real import cloud_rig

pytestmark = [
    pytest.mark.root,
    pytest.mark.guest,
    pytest.mark.cluster,
    pytest.mark.skipif(bool(cloud_rig.missing()), reason=f"needs a machine for real clouds: {cloud_rig.missing()}"),
]
QUEUES = {
    *("conductor", "scheduler", "scheduler.ctl1", "compute", "compute.node1", "compute.node2"),
    *("q-plugin", "q-plugin.ctl1", "l2_agent.node1", "l2_agent.net1", "l3_agent.net1", "dhcp_agent.net1"),
    *("cinder-scheduler", "cinder-volume", "cinder-volume.net1@files", "trace"),
}
SHAPES = [
    Shape(real=True, hosts=2, copies=1),
    pytest.param(Shape(real=True), marks=pytest.mark.full),
    pytest.param(Shape(real=True, database="mariadb"), marks=pytest.mark.full),
]


@pytest.fixture(scope="module", params=SHAPES, ids=lambda shape: f"{shape.database}-{shape.hosts}x{shape.copies}")
def cloud(request: pytest.FixtureRequest) -> Iterator[Machines]:
    with machines(request.param) as made:
        made.furnish(*guest(made.directory, real=True))
        yield made


def test_servers_on_two_hosts_reach_each_other_and_are_reached(cloud: Machines) -> None:
    member = cloud.sdk("demo")
    wait_for_hosts(cloud)
    make_key(cloud)
    network, group = furnish_project(member)
    near, far = (boot(cloud, network.id, group.id, host) for host in ("node1", "node2"))
    floating = associate(member, near)
    wait("ssh from outside", 150, lambda: ssh(cloud, floating, "true").returncode == 0)
    fixed = far.addresses["private"][0]["addr"]
    wait("a ping from host to host", 90, lambda: ssh(cloud, floating, f"ping -c 2 -W 2 {fixed}").returncode == 0)
    told = ssh(
        cloud,
        floating,
        "curl -s -m 9 http://169.254.169.254/openstack/latest/meta_data.json || "
        "timeout 9 wget -qO- http://169.254.169.254/openstack/latest/meta_data.json",
    )
    assert json.loads(told.stdout)["uuid"] == near.id
    assert near.addresses["private"][0]["addr"] in ssh(cloud, floating, "ip address").stdout


def test_queues_have_the_names_that_operators_know(cloud: Machines) -> None:
    names = set(cloud.broker.queues())
    assert names >= QUEUES
    assert any(name.startswith("compute_fanout_") for name in names)
    assert any(name.startswith("reply_") for name in names)


def test_the_books_of_the_cluster_balance(cloud: Machines) -> None:
    assert "all is well" in cloud.run(cloud.land.controller, "doctor")
