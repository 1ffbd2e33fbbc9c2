"""The skip report: reasons are counted, and an unknown one fails a CI run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.plugins.skips import allowed_patterns, not_allowed
from tests.tidy.source import ROOT

SAMPLE = """
import pytest

@pytest.mark.parametrize("number", [1, 2])
def test_skips(number):
    pytest.skip("tired")

def test_runs():
    assert True
"""


def test_patterns_and_comments() -> None:
    patterns = allowed_patterns("# why\nneeds /dev/kvm*\n\nno IPv6 here  # seen on small clouds\n")
    assert patterns == ["needs /dev/kvm*", "no IPv6 here"]
    assert not_allowed(Counter(["needs /dev/kvm that boots", "no IPv6 here", "tired"]), patterns) == ["tired"]


@pytest.mark.parametrize(("ci", "code"), [("", 0), ("true", 1)])
def test_an_unknown_reason_fails_only_in_ci(tmp_path: Path, ci: str, code: int) -> None:
    (tmp_path / "test_sample.py").write_text(SAMPLE)
    options = ["-q", "-p", "tests.plugins.skips", "-c", "/dev/null", "--rootdir", str(tmp_path)]
    environment = {**os.environ, "CI": ci, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pytest", *options, str(tmp_path)]
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == code, ran.stdout
    assert "    2  tired" in ran.stdout
    assert ("NOT ALLOWED" in ran.stdout) == bool(ci)
    assert "1 passed, 2 skipped" in ran.stdout.splitlines()[-1]
