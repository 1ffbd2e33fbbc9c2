"""`kilonova explain SERVER|REQUEST`: why servers went where they did, or nowhere, host by host, for operators."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

from kilonova.base.faults import not_found
from kilonova.cli.admin import Admin


def run(options: argparse.Namespace) -> int:
    """Print the decisions about it, newest first (`--json`: as the API tells them)."""
    return asyncio.run(_run(options))


async def _run(options: argparse.Namespace) -> int:
    admin = Admin.of(options)
    try:
        servers = await _servers(admin, options.id)
        about = servers[0]["id"] if servers else options.id
        path = f"/compute/v2.1/os-scheduler-decisions?about={quote(about, safe='')}"
        decisions = (await admin.ask("GET", path))["decisions"]
    finally:
        await admin.close()
    if not decisions and not servers:
        raise not_found("A scheduler's decision about", options.id)
    if options.json:
        print(json.dumps(decisions, indent=2))
        return 0
    for server in servers:
        print("\n".join([*_server(server), ""]))
    shown = decisions if options.all else decisions[:1]
    print(
        "\n\n".join("\n".join(_decision(one)) for one in shown) or "The scheduler keeps no decision about it any more."
    )
    if len(shown) < len(decisions):
        print(f"\n{len(decisions) - len(shown)} earlier decision(s): --all shows them")
    return 0


async def _servers(admin: Admin, name: str) -> list[dict[str, Any]]:
    """The one server of that id or, when there is only one, of that name."""
    found: list[dict[str, Any]] = []
    for word in ("uuid", "name"):
        query = f"{word}={quote(name, safe='')}&all_tenants=1"
        rows = (await admin.ask("GET", f"/compute/v2.1/servers/detail?{query}"))["servers"]
        found += [row for row in rows if name in (row["id"], row["name"])]
        if found:
            break
    return found[:1] if len(found) == 1 else []


def _server(server: dict[str, Any]) -> list[str]:
    lines = [f"server {server['name']} ({server['id']}): {server['status']}"]
    if host := server.get("OS-EXT-SRV-ATTR:host"):
        lines[0] += f" on {host}"
    if fault := server.get("fault"):
        lines.append(f"  fault: {fault['message']}")
        lines += [f"    {line}" for line in fault.get("details", "").split("; ") if line]
    return lines


def _decision(one: dict[str, Any]) -> list[str]:
    """The lines about one decision."""
    request = f", {one['request_id']}" if one["request_id"] else ""
    lines = [f"{one['created_at']}  server {one['server_id']}{request}; snapshot {one['snapshot']}"]
    lines.append(f"  asked for  {asked(one['wanted'])}")
    lines.append(f"  went to    {one['host']}" if one["host"] else f"  nowhere    {one['message']}")
    lines += left(one["left"])
    if one["best"]:
        lines += ["  the best", *table(("HOST", "WEIGHT"), [(b["host"], f"{b['weight']:.3f}") for b in one["best"]])]
    lines += rejected(one["rejections"])
    return lines


def asked(wanted: dict[str, Any]) -> str:
    """`flavor m1.small: VCPU 1, MEMORY_MB 2048; availability zone east`"""
    amounts = ", ".join(f"{name} {amount}" for name, amount in wanted["resources"].items())
    zone = wanted.get("availability_zone")
    return f"flavor {wanted['flavor']}: {amounts}" + (f"; availability zone {zone}" if zone else "")


def left(counts: Iterable[dict[str, Any]]) -> list[str]:
    """How many hosts were left after each filter, in their order."""
    told = ", ".join(f"{one['filter']} {one['hosts']}" for one in counts)
    return [f"  hosts left {told}"] if told else []


def rejected(rejections: Sequence[dict[str, Any]]) -> list[str]:
    """Host by host: which filter, and why."""
    if not rejections:
        return []
    rows = [(one["host"], one["filter"], one["reason"]) for one in rejections]
    return ["  rejected", *table(("HOST", "BY", "WHY"), rows)]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligned columns."""
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]
    return ["    " + "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in (head, *rows)]  # fmt: skip
