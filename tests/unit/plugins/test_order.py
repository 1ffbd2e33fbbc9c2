"""Tests that own the machine (root, guests, clusters) run one after another, whatever the number of workers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.tidy.source import ROOT

SAMPLE = """
import os
import pathlib
import time

import pytest

SEEN = pathlib.Path(__file__).with_name("seen")


def note(kind):
    with SEEN.open("a") as seen:
        seen.write(f"{kind} {os.environ['PYTEST_XDIST_WORKER']}\\n")
    time.sleep(0.05)


@pytest.mark.parametrize("number", range(4))
def test_anywhere(number):
    note("any")


@pytest.mark.root
@pytest.mark.parametrize("number", range(4))
def test_on_the_machine(number):
    note("machine")
"""


def test_tests_of_the_machine_share_one_worker(tmp_path: Path) -> None:
    for name in ("test_one.py", "test_two.py"):
        (tmp_path / name).write_text(SAMPLE)
    options = ["-p", "tests.plugins.order", "-c", "/dev/null", "--rootdir", str(tmp_path), "-n", "2"]
    command = [sys.executable, "-m", "pytest", *options, "--dist", "loadgroup", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    seen = (tmp_path / "seen").read_text().split("\n")
    assert len([line for line in seen if line.startswith("machine ")]) == 8
    assert len({line for line in seen if line.startswith("machine ")}) == 1, "two tests had the machine at once"
