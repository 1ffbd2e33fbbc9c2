"""The console proxy: on the bus as `consoleauth`; how it reaches a host is handed to it."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from kilonova.base.faults import Fault
from kilonova.bus import rpc
from kilonova.bus.contract import Target
from kilonova.cli.compose.ground import Ground
from kilonova.compute.contract import COMPUTE_TOPIC, CONDUCTOR_TOPIC, EXCHANGE, ComputeAgent, Conductor
from kilonova.node.console_proxy import Connect, ConsoleProxy, Page, read_pages

log = logging.getLogger(__name__)

PAGES = (
    Path(sys.prefix) / "share" / "novnc",
    Path(__file__).resolve().parents[3] / ".venv" / "share" / "novnc",
    Path("/usr/share/novnc"),
)


def console_proxy(ground: Ground, connect: Connect) -> ConsoleProxy:
    """An ASGI app. Without the noVNC page the websocket still works, for clients that bring their own."""
    bus = ground.bus("consoleauth")

    def agent(host: str) -> ComputeAgent:
        return rpc.client(ComputeAgent, bus, Target(EXCHANGE, COMPUTE_TOPIC, host))

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
