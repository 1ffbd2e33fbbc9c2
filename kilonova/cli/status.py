"""`kilonova status`: what runs and how it is: from the process's admin port, or of a cluster from its APIs."""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx

from kilonova.cli.state import State

if TYPE_CHECKING:
    from kilonova.cli.admin import Admin


def ask_admin(port: int, path: str) -> Any:
    """The JSON of the admin port, or None when nobody answers."""
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}{path}", timeout=10, trust_env=False)
        return answer.json()
    except (httpx.HTTPError, ValueError):
        return None


def run(options: argparse.Namespace) -> int:
    """0 when the cloud runs and is ready; 3 when it is stopped; 1 when something is wrong."""
    if options.config:
        return asyncio.run(_cluster(options))
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
    print(f"  way out  {seen['way_out']}")
    counts = "  ".join(f"{name} {number}" for name, number in seen["counts"].items())
    print(f"  holds    {counts}")
    if seen["unfinished"]:
        print(f"  under way  {seen['unfinished']} operations ({seen['stuck']} stuck)")


async def _cluster(options: argparse.Namespace) -> int:
    """Who reports to a cluster's services, and since when those that do not are silent. 1 when somebody is silent."""
    from kilonova.cli.admin import Admin

    admin = Admin.of(options)
    try:
        workers = [*await _workers(admin)]
    finally:
        await admin.close()
    if options.json:
        print(json.dumps({"workers": workers}, indent=2))
    else:
        for one in sorted(workers, key=lambda one: (one["host"], one["binary"])):
            off = "" if one["enabled"] else "  disabled"
            print(f"{one['state']:5} {one['host']:20} {one['binary']:28} {one['heard']}{off}")
    return 1 if any(one["state"] != "up" for one in workers) else 0


async def _workers(admin: Admin) -> list[dict[str, Any]]:
    """Every worker and agent: binary, host, state (up or down), when it was heard, whether it is enabled."""
    found = []
    for path in ("/compute/v2.1/os-services", "/volume/v3/os-services"):
        for one in (await admin.ask("GET", path))["services"]:
            seen = {"heard": one["updated_at"], "enabled": one["status"] == "enabled"}
            found.append({"binary": one["binary"], "host": one["host"], "state": one["state"], **seen})
    for one in (await admin.ask("GET", "/network/v2.0/agents"))["agents"]:
        seen = {"heard": one["heartbeat_timestamp"], "enabled": one["admin_state_up"]}
        state = "up" if one["alive"] else "down"
        found.append({"binary": one["binary"], "host": one["host"], "state": state, **seen})
    return found
