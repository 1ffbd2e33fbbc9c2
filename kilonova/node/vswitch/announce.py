"""Gratuitous ARP: neighbours learn at once where an address lives now (RFC 5227 §3)."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable


def announce(interface: str, mac: str, addresses: Iterable[str]) -> None:
    """Tell the wire of `interface` (in the calling thread's namespace) that `mac` has these IPv4 addresses."""
    source = bytes.fromhex(mac.replace(":", ""))
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind((interface, 0))
        for text in addresses:
            address = socket.inet_aton(text)
            head = b"\xff" * 6 + source + struct.pack("!HHHBBH", 0x0806, 1, 0x0800, 6, 4, 1)
            raw.send(head + source + address + bytes(6) + address)
