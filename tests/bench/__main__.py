"""`make bench [BENCH="login create …"]`: all phases, or those named; exit 1 when a promise is not kept."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import uvloop

from tests.bench import cluster, guests, identity, placement, report, rpc, scheduler
from tests.bench.load import Driver
from tests.bench.phases import IMAGE, ORDER, Bench, Result
from tests.fake_cloud import FakeCloud, fake_cloud

ALONE = {
    "placement": placement.measure,
    "scheduler": scheduler.measure,
    "identity": identity.measure,
    "rpc": rpc.measure,
    "cluster": cluster.measure,
    "guests": guests.measure,
}
ASKED_FOR = {"cluster", "guests"}  # they need root and more than a process: only when named


async def measure(cloud: FakeCloud, chosen: list[str]) -> list[Result]:
    """The results of the chosen phases, printed as they come."""
    driver = Driver(cloud)
    await driver.prepare()
    bench = Bench(cloud, driver, cloud.pid)
    results = []
    for name in chosen:
        result: Result = await getattr(bench, name)()
        promise = report.PROMISES[name]
        print(f"{name:12} {result.value:9.3f} {promise.unit:10} (promised {promise.bound}; {result.operations} "
              f"in {result.wall_seconds:.1f} s)", flush=True)  # fmt: skip
        results.append(result)
    await driver.close()
    return results


def main() -> int:
    """Start a cloud, measure, write."""
    words = [*sys.argv[1:], *os.environ.get("BENCH", "").replace(",", " ").split()]
    section = "measured" if not words else "image" if words == ["image"] else ""
    if "image" in words:
        words = [*(word for word in words if word != "image"), *IMAGE]
    known = (*ORDER, *ALONE)
    if unknown := set(words) - set(known):
        print(f"no such phase: {', '.join(sorted(unknown))}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    alone = [name for name in ALONE if name in words or not (words or name in ASKED_FOR)]
    missed = [miss for name in alone for miss in _alone(name)]
    chosen = [name for name in ORDER if not words or name in words]
    return 1 if (_whole(chosen, section) if chosen else []) or missed else 0


def _alone(name: str) -> list[str]:
    """Measure one part by itself, in this process; what missed its promise."""
    results = uvloop.run(ALONE[name]())
    print(f"\n{report.table(results)}\n\n{report.write(results, name)}")
    if missed := report.missed(results):
        print(f"missed: {', '.join(missed)}")
    return missed


def _whole(chosen: list[str], section: str) -> list[str]:
    """Start a cloud and measure it; what missed its promise."""
    with tempfile.TemporaryDirectory(prefix="kilonova-bench-") as folder, fake_cloud(Path(folder) / "state") as cloud:
        results = uvloop.run(measure(cloud, chosen))
    print(f"\n{report.table(results)}\n\n{report.write(results, section)}")
    if missed := report.missed(results):
        print(f"missed: {', '.join(missed)}")
    return missed


if __name__ == "__main__":
    sys.exit(main())
