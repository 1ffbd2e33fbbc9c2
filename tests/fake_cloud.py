"""A whole cloud without guests in a process of its own, started by the door: for clients, benchmarks, conformance."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class FakeCloud:
    """Where it listens and how to ask the door about it."""

    state: Path
    url: str

    def door(self, *words: str, check: bool = True) -> str:
        """What `kilonova WORDS` printed."""
        command = [sys.executable, "-m", "kilonova.cli.main", *words, "--state", str(self.state)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
        if check and done.returncode:
            raise RuntimeError(f"kilonova {' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def up(self, *more: str) -> None:
        """Start it, or start it again, and wait until it answers."""
        address = self.url.removeprefix("http://")
        self.door("up", "--listen", address, "--hypervisor", "fake", "--network", "fake", "--detach", *more)

    def down(self) -> None:
        """Stop it and keep its state."""
        self.door("down")

    @property
    def pid(self) -> int:
        """The process that is the cloud."""
        return int(json.loads(self.door("status", "--json"))["pid"])

    @property
    def secrets(self) -> dict[str, Any]:
        """Passwords, as the door made them."""
        return dict(json.loads((self.state / "secrets.json").read_text()))

    def environment(self, *, member: bool = False) -> dict[str, str]:
        """The OS_* variables that `kilonova env` prints."""
        printed = self.door("env", *(["--member"] if member else []))
        return dict(re.findall(r"^export (\w+)='(.*)'$", printed, re.MULTILINE))


def free_port() -> int:
    """A loopback port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def fake_cloud(state: Path, *more: str) -> Iterator[FakeCloud]:
    """One that is up, with its state in a directory that is empty or missing; afterwards nothing is left of it."""
    cloud = FakeCloud(state, f"http://127.0.0.1:{free_port()}")
    try:
        cloud.up(*more)
        yield cloud
    finally:
        cloud.door("down", "--purge", check=False)
