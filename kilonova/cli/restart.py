"""`kilonova restart`: the control plane ends and starts again; guests and traffic go on."""

from __future__ import annotations

import argparse

from kilonova.cli import up
from kilonova.cli.down import stop_process
from kilonova.cli.state import State


def run(options: argparse.Namespace) -> int:
    """Restart, detached."""
    state = State(options.state)
    state.need()
    if not stop_process(state):
        print("  it was not running")
    for name in ("listen", "config", "hosts", "hypervisor", "network", "uplink"):
        setattr(options, name, None)
    options.detach, options.ready_fd = True, -1
    return up.run(options)
