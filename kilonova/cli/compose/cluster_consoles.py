"""How a cluster's console proxy reaches a guest's screen on another machine."""

from __future__ import annotations

import asyncio

from kilonova.base.faults import unavailable
from kilonova.cli.compose.cluster_ground import ClusterGround
from kilonova.cli.state import is_loopback
from kilonova.compute.contract import Screen
from kilonova.node.console_proxy import Connect, Stream


def through_relay(ground: ClusterGround) -> Connect:
    """How the proxy of a cluster reaches a host's relay: TLS, with the host's name checked.

    Who says that it speaks none is believed on this machine only, unless the settings take plain connections.
    """

    async def connect(host: str, screen: Screen) -> Stream:
        if screen.encrypted:
            tls = ground.tls.client
            return await asyncio.open_connection(screen.address, screen.port, ssl=tls, server_hostname=host)
        if not is_loopback(screen.address) and not ground.cluster.plain:
            raise unavailable(
                "The server's console is not encrypted on its way.",
                hint="Its host needs a certificate: let it join again.",
                inside=f"{host} {screen.address}",
            )
        return await asyncio.open_connection(screen.address, screen.port)

    return connect
