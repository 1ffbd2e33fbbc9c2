"""`kilonova down`: guests shut down cleanly, the cloud stops; with --purge nothing is left at all."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import time

from kilonova.base.faults import unavailable
from kilonova.cli.claims import release
from kilonova.cli.state import State
from kilonova.cli.teardown import remove_files, take_down

STOP_SECONDS = 60


def stop_process(state: State) -> bool:
    """End the process that holds the cloud, by SIGTERM, then by SIGKILL; False when none did."""
    pid = state.running()
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while state.running() is not None:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            deadline += STOP_SECONDS
        if time.monotonic() > deadline + STOP_SECONDS:
            raise unavailable(f"Process {pid} does not end.", hint="Look at it with `ps` and try again.")
        time.sleep(0.05)
    return True


def run(options: argparse.Namespace) -> int:
    """Stop everything; idempotent."""
    state = State(options.state)
    if not state.exists:
        print(f"There is no cloud in {state.directory}.")
        if options.purge and state.directory.exists() and not any(state.directory.iterdir()):
            state.directory.rmdir()
        return 0
    choices = state.choices()
    if stop_process(state):
        print("  control plane stopped", flush=True)
    with state.held():
        asyncio.run(take_down(state, choices, purge=options.purge, told=lambda line: print(f"  {line}", flush=True)))
    if options.purge:
        remove_files(state)
        release(state.directory)
        print(f"  {state.directory} is gone")
    else:
        print("  down; `kilonova up` brings it back, with the guests that ran")
    return 0
