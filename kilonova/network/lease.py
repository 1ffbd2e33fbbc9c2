"""What a network's DHCP server says to one port."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from kilonova.network.contract import DhcpHost


def host_of(port_id: str, mac: str, revision: int, ips: Iterable[str], named: tuple[str, Sequence[Any]]) -> DhcpHost:
    """`named`: the port's DNS name, and its DHCP options as they are stored. Without addresses it is told nothing."""
    mine, (name, options) = tuple(ips), named
    hostname = name or ("host-" + mine[0].replace(".", "-").replace(":", "-") if mine else "")
    return DhcpHost(
        port_id, mac, mine, hostname, tuple([(str(key), str(value)) for key, value, _ in options]), revision
    )
