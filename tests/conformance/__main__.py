"""Start a cloud, prepare it, run an area's suites, say how it went. scripts/conformance lists the choices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from tests.conformance import image
from tests.conformance.areas import AREAS, again, shard
from tests.conformance.configure import configure
from tests.conformance.known import LOOSE, is_left_out, unexpected
from tests.conformance.prepare import prepare
from tests.conformance.result import Outcome, read
from tests.conformance.second_image import TYPE, second_image
from tests.fake_cloud import ROOT, FakeCloud, fake_cloud

PROGRAMS = ROOT / ".venv-conformance/bin"
RUN_SECONDS = 45 * 60
# stestr starts its workers with $PYTHON, or else with the first `python`: it must be the suites' own.
ENVIRONMENT = {**os.environ, "PYTHON": str(PROGRAMS / "python"), "PATH": f"{PROGRAMS}:{os.environ.get('PATH', '')}"}


# What tempest.conf.in says of passwords; for the other areas they are as they come.
COMPLIANCE = {
    "KILONOVA_IDENTITY_LOCKOUT_FAILURE_ATTEMPTS": "2",
    "KILONOVA_IDENTITY_LOCKOUT_DURATION_SECONDS": "5",
    "KILONOVA_IDENTITY_PASSWORD_HISTORY_COUNT": "2",
}


def chosen(name: str, otherwise: str = "") -> str:
    """A choice from the environment; make passes empty ones for what was not said."""
    return os.environ.get(name, "") or otherwise


class Run:
    """One run of one area in a workspace of its own; what failed is kept for FAILED=1."""

    def __init__(self, area: str, cloud: FakeCloud, home: Path, web_port: int) -> None:
        self.web_port = web_port
        self.area = area
        self.cloud = cloud
        self.home = home
        self.kept = ROOT / "output/conformance" / area
        self.kept.mkdir(parents=True, exist_ok=True)
        self.asked: list[str] = []

    def configure(self) -> None:
        """Prepare the cloud and write the workspace."""
        self._tempest("init", "--workspace-path", str(self.home.with_name("workspaces.yaml")), str(self.home))
        real = chosen("HYPERVISOR", "fake") == "libvirt"
        at_least = chosen("MIN_MICROVERSION")
        values = prepare(self.cloud) | {
            "URL": self.cloud.url,
            "PASSWORD": str(self.cloud.secrets["admin_password"]),
            "TIMEOUT": "300" if real else "40",
            "HOSTS": "2",
            "GUESTS": "true" if real else "false",
            "COMPLIANCE": "true" if self.area == "identity" else "false",
            "WEB": f"http://127.0.0.1:{self.web_port}",
            "MANIFEST": str(image.manifest(self.home / "images")),
            "SECOND_IMAGE": f"alternate_image_endpoint = {TYPE}" if self.area == "image" else "",
            "CONVERTS": str(image.CONVERTS).lower(),
            "MATCH": "false" if chosen("FORMATS") == "loose" else "true",
            "MIN_VERSION": f"min_microversion = {at_least}" if at_least else "",
        }
        configure(self.home, values)

    def tests(self) -> list[str]:
        """The ids to run."""
        loose = self.area == "image" and chosen("FORMATS") == "loose"
        regex = chosen("REGEX", LOOSE if loose else AREAS[self.area])
        listed = self._tempest("run", "--list-tests", "--regex", regex)
        tests = [line.strip() for line in listed.splitlines() if "." in line and " " not in line.strip()]
        self.asked = tests
        if chosen("FAILED"):
            tests = again(tests, (self.kept / "failed.txt").read_text().split("\n"))
        return [test for test in shard(tests, chosen("SHARD", "1/1")) if not is_left_out(self.area, test)]

    def perform(self, tests: list[str]) -> Outcome:
        """Run them; every line is kept beside the outcome."""
        chosen_tests = self.home / "tests.txt"
        chosen_tests.write_text("\n".join(tests) + "\n")
        workers = "1" if chosen("HYPERVISOR") == "libvirt" else chosen("WORKERS", "2")
        command = [PROGRAMS / "tempest", "run", "--load-list", chosen_tests, "--concurrency", workers]
        log = self.kept / "run.log"
        with log.open("w") as written:
            done = subprocess.Popen(command, cwd=self.home, env=ENVIRONMENT, stdout=written, stderr=subprocess.STDOUT)
            try:
                done.wait(RUN_SECONDS)
            except subprocess.TimeoutExpired:
                done.terminate()
                done.wait()
                print(f"stopped after {RUN_SECONDS} s: run it in shards", flush=True)
        return read(log.read_text(errors="replace").splitlines())

    def keep(self, outcome: Outcome, seconds: float) -> None:
        """The outcome as files."""
        (self.kept / "failed.txt").write_text("".join(f"{name}\n" for name in sorted(outcome.failed)))
        ask = ["git", "rev-parse", "--short", "HEAD"]
        commit = subprocess.run(ask, cwd=ROOT, capture_output=True, text=True, check=False)
        whole = {
            "area": self.area, "commit": commit.stdout.strip(), "at": datetime.now(UTC).isoformat(),
            "hypervisor": chosen("HYPERVISOR", "fake"), "shard": chosen("SHARD", "1/1"), "seconds": round(seconds),
            "choices": {name: value for name in ("FORMATS", "REGEX") if (value := chosen(name))}, "asked": self.asked,
            "passed": sorted(outcome.passed), "skipped": outcome.skipped, "failed": sorted(outcome.failed),
        }  # fmt: skip
        (self.kept / f"{datetime.now(UTC):%Y%m%d-%H%M%S}.json").write_text(json.dumps(whole, indent=1))

    def _tempest(self, *words: str) -> str:
        command = [PROGRAMS / "tempest", *words]
        where = self.home if self.home.exists() else self.home.parent
        done = subprocess.run(
            command, cwd=where, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=300
        )
        if done.returncode:
            raise RuntimeError(f"tempest {' '.join(words)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout


def told(outcome: Outcome, seconds: float) -> None:
    """Print failures, reasons of skips, and the one line that counts."""
    for name in sorted(outcome.failed):
        print(f"FAILED  {name}")
    for reason, count in outcome.reasons():
        print(f"skipped {count:4}  {reason}")
    print(f"run {outcome.run}  passed {len(outcome.passed)}  skipped {len(outcome.skipped)}  "
          f"failed {len(outcome.failed)}  in {seconds:.0f} s")  # fmt: skip


def main() -> int:
    """0 when at least MIN passed, or, without MIN, when none failed."""
    area = chosen("AREA")
    if area not in AREAS:
        print(f"AREA={area}: choose one of {', '.join(AREAS)}", file=sys.stderr)
        return 2
    if area == "identity":
        os.environ.update(COMPLIANCE)
    real = chosen("HYPERVISOR", "fake") == "libvirt"
    more = ("--hosts", "2", *(("--hypervisor", "libvirt", "--network", "linux") if real else ()))
    with tempfile.TemporaryDirectory(prefix="kilonova-conformance-") as folder, image.web_server() as port:
        Path(folder).chmod(0o711)  # disks are converted by a child that is nobody
        if area == "image":
            match = chosen("FORMATS") != "loose"
            more = (*more, "--config", str(image.settings(Path(folder) / "settings.toml", port, match=match)))
        return _run(area, Path(folder), port, more)


def _run(area: str, folder: Path, web_port: int, more: tuple[str, ...]) -> int:
    with ExitStack() as left:
        cloud = left.enter_context(fake_cloud(folder / "state", *more))
        if area == "image":
            left.enter_context(second_image(cloud, str(folder / "settings.toml")))
        run = Run(area, cloud, folder / "workspace", web_port)
        run.configure()
        began = time.monotonic()
        outcome = run.perform(run.tests())
        seconds = time.monotonic() - began
    run.keep(outcome, seconds)
    told(outcome, seconds)
    strange = unexpected(area, outcome.skipped)
    for name, why in strange.items():
        print(f"SKIPPED, and nobody knows why that is right: {name}: {why}")
    minimum = chosen("MIN")
    if minimum:
        return 0 if len(outcome.passed) >= int(minimum) else 1
    return 1 if outcome.failed or strange or not outcome.passed else 0


if __name__ == "__main__":
    sys.exit(main())
