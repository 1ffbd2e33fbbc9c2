"""`kilonova guest build`: make the tiny cloud guest from Debian packages; no root needed."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from kilonova.cli.state import State
from kilonova.node.guest.build import build_guest


def cache_directory() -> Path:
    """Downloaded packages and finished builds, shared by all clouds of this user."""
    return Path.home() / ".cache" / "kilonova" / "guest"


def run(options: argparse.Namespace) -> int:
    """Build, or find that the last build is still right."""
    output = options.output or State(options.state).directory / "guest"
    began = time.monotonic()

    def told(line: str) -> None:
        print(f"  {time.monotonic() - began:6.1f} s  {line}", flush=True)

    made = build_guest(output, cache_directory(), told=told)
    told(
        f"{made.disk}  {made.disk.stat().st_size / 1e6:.1f} MB" + ("  (as it was built before)" if made.reused else "")
    )
    return 0
