"""`kilonova status`: what runs and how it is, from the process's admin port."""

from __future__ import annotations

import argparse
import json
from typing import Any

import httpx

from kilonova.cli.state import State


def ask_admin(port: int, path: str) -> Any:
    """The JSON of the admin port, or None when nobody answers."""
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}{path}", timeout=10, trust_env=False)
        return answer.json()
    except (httpx.HTTPError, ValueError):
        return None


def run(options: argparse.Namespace) -> int:
    """0 when the cloud runs and is ready; 3 when it is stopped; 1 when something is wrong."""
    state = State(options.state)
    choices = state.need()
    pid = state.running()
    seen = ask_admin(choices.admin_port, "/status") if pid else None
    if options.json:
        print(json.dumps({"running": pid is not None, "pid": pid, "listen": choices.listen, "cloud": seen}, indent=2))
    elif pid is None:
        print(f"stopped  {state.directory}\n  start it with `kilonova up`")
    elif seen is None:
        print(
            f"process {pid} runs but does not answer on 127.0.0.1:{choices.admin_port}; see {state.logs}/kilonova.log"
        )
    else:
        _print(state, pid, seen)
    return 3 if pid is None else 0 if seen and seen.get("ready") else 1


def _print(state: State, pid: int, seen: dict[str, Any]) -> None:
    ready = "ready" if seen["ready"] else "NOT READY: " + "; ".join(seen["problems"])
    print(f"{ready}  process {pid}  {seen['memory_mb']} MB  up {seen['uptime_seconds']} s  {state.directory}")
    print(f"  APIs     {seen['url']}")
    print(f"  hosts    {', '.join(seen['hosts'])}  ({seen['hypervisor']}, network {seen['network']})")
    counts = "  ".join(f"{name} {number}" for name, number in seen["counts"].items())
    print(f"  holds    {counts}")
    if seen["unfinished"]:
        print(f"  under way  {seen['unfinished']} operations ({seen['stuck']} stuck)")
