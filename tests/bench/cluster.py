"""What each process of a cluster takes: `make bench BENCH=cluster`, as root. Fake hosts; one copy of everything.

The processes see what `make run` installs and no more: some libraries load what only tests need, when it is there.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from datetime import UTC, datetime

from tests.bench.phases import Result
from tests.bench.process import pss_mib
from tests.bench.report import PAGE, commit, fill
from tests.cluster.machines import Machines, Shape, machines
from tests.cluster.member import wait, wait_for_hosts

BUILDS, REST_SECONDS, LIMIT_MIB = 20, 75, 60  # memory is given back once in a minute


async def measure() -> list[Result]:
    """PSS of each process at rest, after some servers were built and deleted; the page's table is written too."""
    sizes = await asyncio.to_thread(_measure)
    heavy = sorted(sizes.values())
    lines = ["| process | MiB PSS |", "|---|---:|"]
    lines += [f"| {name} | {size:.0f} |" for name, size in sorted(sizes.items(), key=lambda one: -one[1])]
    head = f"Measured {datetime.now(UTC):%Y-%m-%d} at {commit()}."
    fill(PAGE, "processes", "\n".join([head, "", *lines]))
    return [
        Result("process", heavy[-1]),
        Result("process_median", statistics.median(heavy)),
        Result("process_above", sum(1 for size in heavy if size > LIMIT_MIB), len(heavy)),
    ]


def _measure() -> dict[str, float]:
    with machines(Shape(hosts=1, copies=1, bare=True)) as cloud:
        cloud.furnish(bytes(1 << 20), "raw")
        wait_for_hosts(cloud)
        _use(cloud)
        time.sleep(REST_SECONDS)
        return {key.partition("@")[0]: pss_mib(process.pid) for key, process in cloud.running.items()}


def _use(cloud: Machines) -> None:
    """Some servers come and go."""
    member = cloud.sdk("demo")
    network = member.network.create_network(name="private")
    member.network.create_subnet(network_id=network.id, cidr="10.9.0.0/24", ip_version=4)
    image, flavor = member.image.find_image("cirros"), member.compute.find_flavor("tiny")
    for number in range(BUILDS):
        made = member.compute.create_server(
            name=f"s{number}", image_id=image.id, flavor_id=flavor.id, networks=[{"uuid": network.id}]
        )
        member.compute.wait_for_server(made, interval=0.2, wait=60)
        member.compute.delete_server(made)
    wait("all are gone", 60, lambda: not list(member.compute.servers()))
