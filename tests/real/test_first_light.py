"""First light, on a real cloud: a create that is traced hop by hop, kill -9 amid builds, down and up again."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from kilonova.cli.trace import trace_file
from kilonova.trace.collect import SpanStore
from kilonova.trace.spans import Span
from tests.real import cloud_rig
from tests.real.cloud_rig import Cloud

pytestmark = [
    pytest.mark.root,
    pytest.mark.guest,
    pytest.mark.skipif(bool(cloud_rig.missing()), reason=f"needs a machine for real clouds: {cloud_rig.missing()}"),
]

# The published flow of a create (mission: client to hypervisor), as arrows that must appear in this order.
FLOW = [
    ("client", "keystone", "POST /v3/auth/tokens"),
    ("client", "nova_api", "POST /v2.1/servers"),
    ("nova_api", "keystone", "GET /v3/auth/tokens"),
    ("nova_api", "glance", "GET /v2/images/"),
    ("nova_api", "database", "vm_state = building"),
    ("nova_api", "nova_conductor", "build_instances"),
    ("nova_conductor", "nova_scheduler", "select_destinations"),
    ("nova_scheduler", "placement", "GET /changes"),
    ("nova_scheduler", "placement", "POST /claims"),
    ("nova_conductor", "database", "host"),
    ("nova_conductor", "nova_compute", "build_and_run_instance"),
    ("nova_compute", "nova_conductor", "server_for_host"),
    ("nova_compute", "glance", "GET /v2/images/"),
    ("nova_compute", "neutron", "POST /v2.0/ports"),
    ("nova_compute", "cinder", "/attachments/"),
    ("nova_compute", "libvirt", "start"),
    ("nova_conductor", "database", "vm_state = active"),
]


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with cloud_rig.real_cloud() as made:
        yield made


def prepare(sdk: Any, name: str) -> Any:
    """A network with a router and a group that lets ssh in."""
    public = sdk.network.find_network("public", ignore_missing=False)
    network = sdk.network.create_network(name=name)
    subnet = sdk.network.create_subnet(network_id=network.id, name=name, ip_version=4, cidr="10.30.0.0/24")
    router = sdk.network.create_router(name=name, external_gateway_info={"network_id": public.id})
    sdk.network.add_interface_to_router(router, subnet_id=subnet.id)
    group = sdk.network.create_security_group(name=name)
    sdk.network.create_security_group_rule(
        security_group_id=group.id, direction="ingress", protocol="tcp", port_range_min=22, port_range_max=22
    )
    return network


def spans_of(cloud: Cloud, id_: str) -> list[Span]:
    """The spans of the trace that created it, with the login it came from."""
    from kilonova.cli.trace import with_login

    time.sleep(1.5)
    store = SpanStore(trace_file(cloud.state))
    try:
        return with_login(store, store.find(id_))
    finally:
        store.close()


def test_a_create_shows_every_hop_in_order(cloud: Cloud) -> None:
    sdk = cloud.sdk()
    network = prepare(sdk, "traced")
    volume = sdk.block_storage.create_volume(name="traced", size=1)
    sdk.block_storage.wait_for_status(volume, "available", wait=60)
    image = sdk.image.find_image("cirros")
    fresh = cloud.sdk()  # a token that no service has seen: its first validation is a hop to keystone
    server = fresh.compute.create_server(
        name="traced",
        flavor_id="1",
        networks=[{"uuid": network.id}],
        block_device_mapping=[
            {"source_type": "image", "destination_type": "local", "uuid": image.id, "boot_index": 0},
            {"source_type": "volume", "destination_type": "volume", "uuid": volume.id, "boot_index": -1},
        ],
        image_id=image.id,
    )
    server = sdk.compute.wait_for_server(server, wait=180)
    assert sdk.block_storage.get_volume(volume.id).status == "in-use"
    spans = sorted(spans_of(cloud, server.id), key=lambda span: span.start)
    arrows = [(span.source, span.target, span.name) for span in spans]
    at = 0
    for source, target, words in FLOW:
        found = next(
            (i for i in range(at, len(arrows)) if arrows[i][:2] == (source, target) and words in arrows[i][2]), None
        )
        assert found is not None, f"after arrow {at}: no {source} → {target} {words!r} in\n" + "\n".join(
            f"{number:4} {a} → {b}: {c}" for number, (a, b, c) in enumerate(arrows)
        )
        at = found
    kinds = {(span.source, span.target): span.kind for span in spans}
    assert kinds[("nova_api", "nova_conductor")] == "cast"
    assert kinds[("nova_conductor", "nova_compute")] == "cast"
    assert all(span.end >= span.start for span in spans)
    for format_ in ("text", "mermaid", "svg", "png", "wsd"):
        output = cloud.directory / f"t.{format_}"
        cloud.run("trace", server.id, "--format", format_, "-o", str(output))
        assert output.stat().st_size > 500
    sdk.compute.delete_server(server)
    sdk.compute.wait_for_delete(server, wait=120)
    assert sdk.block_storage.get_volume(volume.id).status == "available"


def ssh_line(cloud: Cloud, address: str, command: str) -> list[str]:
    quiet = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
    key = ["-i", str(cloud.directory / "first.key"), "-o", "ConnectTimeout=5", "-o", "BatchMode=yes"]
    return ["ssh", *key, *quiet, f"cirros@{address}", command]


def first_address(cloud: Cloud) -> str:
    """The floating IP of the first server, which is made when it is not there."""
    said = cloud.run("first-server").stdout
    return said.split("floating IP ", 1)[1].split()[0]


def test_kill_9_amid_ten_builds_loses_nothing(cloud: Cloud) -> None:
    address = first_address(cloud)
    talk = subprocess.Popen(
        ssh_line(cloud, address, "for i in $(seq 1 45); do echo $i; sleep 1; done"), stdout=subprocess.PIPE, text=True
    )
    admin = cloud.sdk("kilonova-admin")
    image, network = admin.image.find_image("cirros"), prepare(admin, "killed")
    made = [
        admin.compute.create_server(
            name=f"k{number}", image_id=image.id, flavor_id="1", networks=[{"uuid": network.id}]
        )
        for number in range(10)
    ]
    time.sleep(2.0)
    cloud.kill()
    cloud.up()
    admin = cloud.sdk("kilonova-admin")
    deadline = time.monotonic() + 240
    ended: dict[str, str] = {}
    while len(ended) < len(made) and time.monotonic() < deadline:
        for server in made:
            seen = admin.compute.get_server(server.id)
            if seen.status in ("ACTIVE", "ERROR") and not seen.task_state:
                ended[server.id] = seen.status
                assert seen.status == "ACTIVE" or seen.fault["message"], seen
        time.sleep(1)
    assert len(ended) == 10, {s.id: admin.compute.get_server(s.id).task_state for s in made}
    out, _ = talk.communicate(timeout=90)
    assert out.split() == [str(number) for number in range(1, 46)], "traffic of a running guest was disturbed"
    for server in made:
        admin.compute.delete_server(server.id)
    for server in made:
        admin.compute.wait_for_delete(server, wait=120)
    doctor = cloud.run("doctor", check=False)
    assert "books    balance" in doctor.stdout, doctor.stdout


def test_down_and_up_brings_guests_back(cloud: Cloud) -> None:
    address = first_address(cloud)
    assert subprocess.run(ssh_line(cloud, address, "touch kept; sync"), check=False).returncode == 0
    cloud.run("down")
    assert not [line for line in cloud.left_behind() if "process" in line or "namespace" in line]
    cloud.up()
    deadline = time.monotonic() + 120
    while subprocess.run(ssh_line(cloud, address, "ls kept"), check=False, capture_output=True).returncode:
        assert time.monotonic() < deadline, cloud.log()
        time.sleep(1)
    assert cloud.sdk().compute.find_server("first", ignore_missing=False).status == "ACTIVE"
