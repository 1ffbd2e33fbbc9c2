"""`make run` with options of `kilonova up`: the first server is booted in the cloud that they name."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.fake_cloud import ROOT, FakeCloud, free_port


def test_the_first_server_is_in_the_cloud_that_was_asked_for(tmp_path: Path) -> None:
    cloud = FakeCloud(tmp_path / "state", f"http://127.0.0.1:{free_port()}")
    options = f"--state {cloud.state} --listen {cloud.url.removeprefix('http://')} --hypervisor fake --network fake"
    command = [str(ROOT / "scripts" / "run"), *options.split(), "--uplink", "none"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        assert "ACTIVE  server first" in done.stdout and f"--state {cloud.state}" in done.stdout
    finally:
        cloud.door("down", "--purge", check=False)
    assert not cloud.state.exists()
