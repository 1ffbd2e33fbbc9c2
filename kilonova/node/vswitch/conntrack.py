"""The kernel's connections of a namespace, read and cut by netlink (linux/netfilter/nfnetlink_conntrack.h)."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from kilonova.base.faults import unavailable

Address = IPv4Address | IPv6Address

_NETLINK_NETFILTER: Final = 12
_GET, _DELETE = (1 << 8) | 1, (1 << 8) | 2
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_ERROR, _DONE = 2, 3
_NESTED_MASK: Final = 0x3FFF
_TUPLE_ORIG, _ZONE, _TUPLE_REPLY = 1, 18, 2
_TUPLE_IP, _TUPLE_PROTO = 1, 2


@dataclass(frozen=True)
class Connection:
    """A tracked connection, as its first packet went. ICMP: `port` is 0, `type` and `code` count."""

    family: int
    zone: int
    protocol: int
    source: Address
    destination: Address
    source_port: int
    destination_port: int
    icmp_type: int
    icmp_code: int
    answered_by: Address  # who answers: differs from `destination` when the address was translated
    translated_to: Address  # to whom the answer goes: differs from `source` when that was translated
    raw_tuple: bytes  # as the kernel gave it, to name it when deleting


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("HH", data, offset)
        if length < 4:
            return
        yield kind & _NESTED_MASK, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def _attribute(kind: int, payload: bytes) -> bytes:
    return struct.pack("HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def _message(kind: int, flags: int, family: int, attributes: bytes = b"") -> bytes:
    body = struct.pack("BBH", family, 0, 0) + attributes
    return struct.pack("IHHII", 16 + len(body), kind, flags, 1, 0) + body


def _tuple(data: bytes) -> tuple[Address, Address, dict[int, bytes]] | None:
    parts = dict(_attributes(data))
    addresses = dict(_attributes(parts.get(_TUPLE_IP, b"")))
    source, destination = addresses.get(1) or addresses.get(3), addresses.get(2) or addresses.get(4)
    if source is None or destination is None:
        return None
    return ip_address(source), ip_address(destination), dict(_attributes(parts.get(_TUPLE_PROTO, b"")))


def _connection(body: bytes) -> Connection | None:
    attributes = dict(_attributes(body[4:]))
    original, reply = _tuple(attributes.get(_TUPLE_ORIG, b"")), _tuple(attributes.get(_TUPLE_REPLY, b""))
    if original is None or reply is None:
        return None
    source, destination, proto = original

    def number(*kinds: int) -> int:
        return next((int.from_bytes(proto[kind], "big") for kind in kinds if kind in proto), 0)

    return Connection(
        family=body[0],
        zone=int.from_bytes(attributes.get(_ZONE, b"\0\0"), "big"),
        protocol=number(1),
        source=source,
        destination=destination,
        source_port=number(2),
        destination_port=number(3),
        icmp_type=number(5, 8),
        icmp_code=number(6, 9),
        answered_by=reply[0],
        translated_to=reply[1],
        raw_tuple=attributes[_TUPLE_ORIG],
    )


def connections() -> list[Connection]:
    """All connections of the calling thread's namespace."""
    found: list[Connection] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as link:
        link.settimeout(5.0)
        link.send(_message(_GET, _REQUEST | _DUMP, 0))
        while True:
            data = link.recv(1 << 18)
            offset = 0
            while offset + 16 <= len(data):
                length, kind = struct.unpack_from("IH", data, offset)
                body = data[offset + 16 : offset + length]
                if kind == _DONE:
                    return found
                if kind == _ERROR:
                    raise _failed(-struct.unpack_from("i", body)[0])
                if connection := _connection(body):
                    found.append(connection)
                offset += (length + 3) & ~3


def cut(connection: Connection) -> None:
    """Forget a connection: its next packet is a stranger. One that is gone is fine."""
    attributes = _attribute(_TUPLE_ORIG | 0x8000, connection.raw_tuple)
    if connection.zone:
        attributes += _attribute(_ZONE, connection.zone.to_bytes(2, "big"))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as link:
        link.settimeout(5.0)
        link.send(_message(_DELETE, _REQUEST | _ACK, connection.family, attributes))
        code = -struct.unpack_from("i", link.recv(65536), 16)[0]
        if code not in (0, errno.ENOENT):
            raise _failed(code)


def _failed(code: int) -> Exception:
    return unavailable("The connection table did not answer.", inside=f"ctnetlink: {os.strerror(code)}")
