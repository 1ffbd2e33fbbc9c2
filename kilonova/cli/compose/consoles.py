"""The console proxy of the embedded cloud, mounted beside the APIs; it enters each host's network namespace."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from kilonova.base.faults import Fault, not_found
from kilonova.bus import rpc
from kilonova.bus.contract import Target
from kilonova.cli.compose.ground import Ground
from kilonova.cli.compose.hosts import Agents
from kilonova.compute.contract import COMPUTE_TOPIC, CONDUCTOR_TOPIC, EXCHANGE, ComputeAgent, Conductor
from kilonova.node.console_proxy import ConsoleProxy, Page, read_pages

log = logging.getLogger(__name__)

PAGES = (
    Path(sys.prefix) / "share" / "novnc",
    Path(__file__).resolve().parents[3] / ".venv" / "share" / "novnc",
    Path("/usr/share/novnc"),
)


def console_proxy(ground: Ground, agents: Sequence[Agents]) -> ConsoleProxy:
    """An ASGI app. Without the noVNC page the websocket still works, for clients that bring their own."""
    bus = ground.bus("consoleauth")
    by_name = {one.host.name: one.host for one in agents}

    def agent(host: str) -> ComputeAgent:
        return rpc.client(ComputeAgent, bus, Target(EXCHANGE, COMPUTE_TOPIC, host))

    async def connect(host: str, address: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if host not in by_name:
            raise not_found("Host", host)
        return await by_name[host].wires.connect(address, port)

    conductor = rpc.client(Conductor, bus, Target(EXCHANGE, CONDUCTOR_TOPIC))
    return ConsoleProxy(ground.world, conductor, agent, connect, _pages())


def _pages() -> dict[str, Page]:
    for directory in PAGES:
        try:
            return read_pages(directory)
        except Fault:
            continue
    log.warning("the noVNC page is not installed: consoles have no page (run scripts/setup)")
    return {}
