"""What a confined child cannot do."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kilonova.base.faults import Fault, Kind
from kilonova.base.units import MIB
from kilonova.node.confined import Limits, run_confined


@pytest.fixture
def place() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="kn-confined-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


def test_a_child_that_takes_too_long_is_stopped() -> None:
    with pytest.raises(Fault) as caught:
        run_confined(["sleep", "30"], Limits(wall_seconds=0.2))
    assert caught.value.kind is Kind.UNAVAILABLE
    assert "too long" in caught.value.message


def test_an_output_that_grows_too_far_is_removed(place: Path) -> None:
    out = place / "out"
    with pytest.raises(Fault):
        run_confined(
            ["dd", "if=/dev/zero", f"of={out}", "bs=1M", "count=8"], Limits(file_bytes=MIB), outputs=[str(out)]
        )
    assert not out.exists()


def test_memory_is_bounded() -> None:
    with pytest.raises(Fault):
        run_confined(["head", "-c", "1", "/dev/zero"], Limits(memory_bytes=MIB))


def test_a_missing_program_is_named() -> None:
    with pytest.raises(Fault) as caught:
        run_confined(["no-such-program"])
    assert "no-such-program" in caught.value.message


@pytest.mark.root
def test_it_is_nobody_without_network_and_cannot_read_what_is_private(place: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, libvirtd and QEMU")
    assert run_confined(["id", "-u"]).strip() == b"65534"
    status = run_confined(["cat", "/proc/self/status"]).decode()
    assert {line.split()[1] for line in status.splitlines() if line.startswith("Cap")} == {"0" * 16}
    assert "NoNewPrivs:\t1" in status
    interfaces = run_confined(["cat", "/proc/self/net/dev"]).decode().splitlines()[2:]
    assert {line.split(":")[0].strip() for line in interfaces} <= {"lo", "ifb0", "ifb1"}
    secret = place / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    with pytest.raises(Fault) as caught:
        run_confined(["cat", str(secret)])
    assert caught.value.kind is Kind.UNAVAILABLE
    out = place / "out"
    run_confined(["cp", "/etc/hostname", str(out)], Limits(file_bytes=MIB), outputs=[str(out)])
    assert (out.stat().st_uid, out.read_bytes()) == (0, Path("/etc/hostname").read_bytes())
