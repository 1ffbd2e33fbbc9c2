"""What the guide promises, what was measured, and the table that shows both."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.bench import yardstick
from tests.bench.phases import Result
from tests.fake_cloud import ROOT

PAGE = ROOT / "docs/benchmarks.md"


@dataclass(frozen=True)
class Promise:
    """A budget; `at_least` turns it around; without one the figure only explains another.

    `openstack` is the same on OpenStack 2026.2, all its services added up, one at a time; `openstack_eight` is at eight
    at a time.
    """

    what: str
    unit: str
    budget: float | None  # None: told beside the others, nothing is promised
    openstack: str = ""
    openstack_eight: str = ""
    at_least: bool = False

    @property
    def bound(self) -> str:
        """The budget as the table shows it."""
        return "" if self.budget is None else f"{'≥' if self.at_least else '≤'} {self.budget:g}"

    def kept(self, value: float) -> bool:
        """Whether the measured value is within it."""
        if self.budget is None:
            return True
        return value >= self.budget if self.at_least else value <= self.budget


PROMISES = {
    "login": Promise("password login", "CPU ms", 30, "263", "236"),
    "validate": Promise("token validation", "CPU ms", 0.3, "5.6", "4.0"),
    "get": Promise("GET one server", "CPU ms", 0.6, "67", "65"),
    "list_1000": Promise("GET 1000 servers in detail", "CPU ms", 30, "5900 at 600"),
    "create": Promise("create a server with one port, to ACTIVE", "CPU ms", 25, "1500–2280"),
    "delete": Promise("delete it, until it is gone", "CPU ms", 20, "655–1115"),
    "port_create": Promise("create a port", "CPU ms", 5, "197", "124"),
    "image_list": Promise("list images", "CPU ms", 1, "6"),
    "image_list_1000": Promise("list 1000 images", "CPU ms", 20),
    "image_show": Promise("GET one image", "CPU ms", 0.5),
    "image_upload": Promise("upload 1 GB: two hashes, inspection, fsync", "CPU s", 5),
    "image_memory": Promise("most memory of the whole cloud meanwhile", "MiB PSS", 150),
    "image_download": Promise("download 1 GB", "CPU s", 1),
    "burst": Promise("100 boots, 16 at a time", "servers/s", 30, "1.1", at_least=True),
    "memory": Promise("memory of the idle cloud", "MiB PSS", 120, "3800"),
    "restart": Promise("`up` with 1000 servers, to the first login", "s", 3),
    "idle": Promise("at rest with 1000 servers", "CPU ms/s", 20, "260"),
    "candidates_1000_p99": Promise("1000 candidates of 10,000 providers, 99 of 100 within", "ms", 50),
    "candidates_1000_cpu": Promise("the same", "CPU ms", 25, "941 (of 5000)"),
    "candidates_all_p99": Promise("all 10,000 of them, 99 of 100 within", "ms", 250),
    "candidates_all_cpu": Promise("the same", "CPU ms", 100),
    "claims": Promise("claims in batches of 64, from one caller", "claims/s", 1000, at_least=True),
    "claim_cpu": Promise("one of them", "CPU µs", 600),
    "guest_active": Promise("a real guest, its image cached: POST to ACTIVE, median", "s", None),
    "guest_libvirt": Promise("the same guest defined and started by libvirt alone, median", "s", None),
    "guest_beyond": Promise("what the cloud adds to that, median of the differences", "s", 1),
    "place_empty": Promise("placements among 5000 empty hosts", "per s", 1000, at_least=True),
    "place": Promise("placements among 5000 hosts with 100,000 servers", "per s", 1000, "about 1", at_least=True),
    "place_cpu": Promise("one of them, placement's part and the kept reasons included", "CPU ms", 1),
    "decide_cpu": Promise("the decision by itself, among those hosts", "CPU µs", 500),
    "decide_growth": Promise("its cost beside that when the first 4,000 were placed", "times", 1.1),
    "place_memory": Promise("memory of scheduler and placement then", "MiB RSS", 1024),
    "reports": Promise("13,000 hosts that report every 30 s", "CPU ms/s", 250),
    "identity_cached": Promise("validate a token that is remembered, in process", "CPU ms", 0.02),
    "identity_http": Promise("the same over HTTP, as a service elsewhere asks", "CPU ms", 0.25, "4–6"),
    "identity_uncached": Promise("validate one that is not", "CPU ms", 0.8, "4–6"),
    "identity_credential": Promise("log in by application credential", "CPU ms", 1),
    "identity_password": Promise("log in by password", "CPU ms", 30, "242"),
    "identity_hash": Promise("of that, argon2id by itself", "CPU ms", None),
    "identity_effective": Promise("effective assignments of one user", "CPU ms", 5),
    "identity_names": Promise("the same with names", "CPU ms", 5),
    "identity_page": Promise("100 users, by the beginning of their names", "CPU ms", 20),
    "identity_user": Promise("GET one user", "CPU ms", 1),
    "identity_all": Promise("GET all 10,000 users", "CPU ms", 500),
    "process": Promise("the largest process of a cluster", "MiB PSS", 60),
    "process_median": Promise("half of them are below", "MiB PSS", 60),
    "process_above": Promise("how many are above 60 MiB", "processes", 0),
    "rpc": Promise("calls between two processes, 32 at a time", "calls/s", 1500, "897", at_least=True),
    "rpc_p99": Promise("99 of 100 within", "ms", 60),
    "rpc_caller": Promise("one of them, at the caller", "CPU µs", 250, "566"),
    "rpc_worker": Promise("the same, at the worker", "CPU µs", 250, "585"),
}


def table(results: Sequence[Result]) -> str:
    """Markdown, in the order of the promises. What was also measured on PostgreSQL, or at eight at a time, has columns
    for that; a promise is held on the first figure, one at a time, and on PostgreSQL's where there is one."""
    by_phase = {result.phase: result for result in results}
    both = any(result.postgresql is not None for result in results)
    eight = any(result.eight is not None for result in results)
    first, last = ("one at a time", "OpenStack, one at a time") if eight else ("Kilonova", "OpenStack")
    more = [*(["on PostgreSQL"] if both else []), *(["8 at a time"] if eight else [])]
    head = ("", "unit", first, *more, "promised", "", last, *(["8 at a time"] if eight else []))
    rule = ("---", "---", "---:", *("---:" for _ in more), "---:", "---", "---:", *(["---:"] if eight else []))
    rows = [head, rule]
    for phase, promise in PROMISES.items():
        if (result := by_phase.get(phase)) is None:
            continue
        there = ("" if result.postgresql is None else _figure(result.postgresql),) if both else ()
        at_eight = ("" if result.eight is None else _figure(result.eight),) if eight else ()
        word = "" if promise.budget is None else "kept" if _keeps(result) else "**missed**"
        figures = (promise.what, promise.unit, _figure(result.value), *there, *at_eight)
        rows.append((*figures, promise.bound, word, promise.openstack, *([promise.openstack_eight] if eight else [])))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _figure(value: float) -> str:
    """Three digits that count, and no powers of ten."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _keeps(result: Result) -> bool:
    promise = PROMISES[result.phase]
    return promise.kept(result.value) and (result.postgresql is None or promise.kept(result.postgresql))


def missed(results: Sequence[Result]) -> list[str]:
    """The phases whose promise is not kept, on one database or the other."""
    return [result.phase for result in results if result.phase in PROMISES and not _keeps(result)]


def write(results: Sequence[Result], section: str) -> Path:
    """output/bench/TIME.json, and the section's table in docs/benchmarks.md when one is named."""
    now = datetime.now(UTC)
    machine = f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"
    folder = ROOT / "output/bench"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{now:%Y%m%d-%H%M%S}.json"
    whole = {"commit": commit(), "at": now.isoformat(), "machine": machine, "load": os.getloadavg()}
    file.write_text(json.dumps({**whole, "results": [asdict(result) for result in results]}, indent=2))
    if section:
        load = os.getloadavg()[0]  # before the yardsticks add to it
        head = f"Measured {now:%Y-%m-%d} at {commit()} on {machine}; load average {load:.1f}. {yardstick.words()}"
        fill(PAGE, section, f"{head}\n\n{table(results)}")
    return file


def commit() -> str:
    """What was measured."""
    ask = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(ask, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def fill(page: Path, section: str, text: str) -> None:
    """Write the text between a page's marks for the section."""
    begin, end = f"<!-- {section}: begin -->", f"<!-- {section}: end -->"
    before, _, rest = page.read_text().partition(begin)
    page.write_text(f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}")
