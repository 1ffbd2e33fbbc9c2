"""The README's walkthrough, every line as written, on a real cloud with real guests."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.real import cloud_rig

pytestmark = [
    pytest.mark.root,
    pytest.mark.guest,
    pytest.mark.skipif(bool(cloud_rig.missing()), reason=f"needs a machine for real clouds: {cloud_rig.missing()}"),
]
README = cloud_rig.ROOT / "README.md"


def walkthrough() -> list[str]:
    """The lines of the README's console blocks."""
    blocks = re.findall(r"^```console\n(.*?)^```", README.read_text(), re.M | re.S)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def test_the_walkthrough_runs_as_written(tmp_path: Path) -> None:
    lines = walkthrough()
    assert len(lines) > 30
    script = "set -eu -o pipefail\n" + "".join(f"echo '+++ {number}'\n{line}\n" for number, line in enumerate(lines))
    with cloud_rig.real_cloud() as cloud:
        first = cloud.run("first-server")
        assert "ssh works: Linux" in first.stdout, first.stdout
        assert re.search(r"ACTIVE\s+server first", first.stdout)
        done = subprocess.run(
            ["bash", "-c", script],
            capture_output=True,
            text=True,
            timeout=420,
            env=cloud.environment,
            cwd=tmp_path,
            check=False,
        )
        said = done.stdout
        last = said.rsplit("+++ ", 1)[-1].split("\n", 1)[0]
        assert done.returncode == 0, (
            f"line {lines[int(last)]!r} failed\n{said[-1500:]}\n{done.stderr[-1500:]}\n{cloud.log()}"
        )
        assert (tmp_path / "hello.svg").read_text().startswith("<")
        assert "### cloud done" in said
        assert "build_and_run_instance" in said
        assert "vdb" in said
        assert '"name": "hello"' in said or '"hello"' in said
