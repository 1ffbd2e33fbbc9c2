"""Router advertisements (RFC 4861 §6.2): guests learn their IPv6 default route from the router itself.

Prefixes and the way addresses are given come from the DHCP server's advertisements; these carry no prefix. Guests
keep the route for half an hour, so that a process that is restarted is not missed.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from kilonova.base.world import World
from kilonova.node.vswitch.namespace import NamespaceThreads

LIFETIME_SECONDS: Final = 1800
INTERVAL_SECONDS: Final = 30.0
_ICMPV6_FILTER, _SOLICITATION = 1, 133


@dataclass(frozen=True)
class AdvertisedLeg:
    """A router's leg on whose wire it is the default router."""

    interface: str
    mac: str
    mtu: int


def advertisement(leg: AdvertisedLeg) -> bytes:
    """The ICMPv6 message; the kernel fills in its checksum."""
    head = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, LIFETIME_SECONDS, 0, 0)
    source = struct.pack("!BB", 1, 1) + bytes.fromhex(leg.mac.replace(":", ""))
    return head + source + struct.pack("!BBHI", 5, 1, 0, leg.mtu)


class RouterAdvertiser:
    """Advertises the routers of one host, every half minute and when a guest asks."""

    def __init__(self, world: World, threads: NamespaceThreads) -> None:
        self._world, self._threads = world, threads
        self._serving: dict[str, tuple[tuple[AdvertisedLeg, ...], list[asyncio.Task[Any]]]] = {}

    async def serve(self, namespace: str, legs: Sequence[AdvertisedLeg]) -> None:
        """Advertise exactly these legs of the router in `namespace`."""
        if self._serving.get(namespace, ((),))[0] == tuple(legs):
            return
        await self.forget(namespace)
        tasks = []
        for leg in legs:
            wire = await self._threads.run_in(namespace, _opened, leg.interface)
            tasks.append(self._world.spawn(self._advertise(wire, leg), f"advertise {leg.interface}"))
        self._serving[namespace] = (tuple(legs), tasks)

    async def forget(self, namespace: str) -> None:
        """Advertise nothing of the router in `namespace` any more."""
        _, tasks = self._serving.pop(namespace, ((), []))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """Advertise nothing any more."""
        for namespace in list(self._serving):
            await self.forget(namespace)

    async def _advertise(self, wire: socket.socket, leg: AdvertisedLeg) -> None:
        loop, message = asyncio.get_running_loop(), advertisement(leg)
        with wire:
            while True:
                with contextlib.suppress(OSError):  # the leg may be down, or on its way out
                    wire.sendto(message, ("ff02::1", 0))
                with contextlib.suppress(TimeoutError, OSError):
                    async with asyncio.timeout(INTERVAL_SECONDS):
                        await loop.sock_recv(wire, 1500)  # only solicitations pass the filter
                await self._world.clock.sleep(0.1)  # a flood of questions is not a flood of answers


def _opened(interface: str) -> socket.socket:
    """A raw socket in the calling thread's namespace that hears solicitations and speaks to all nodes."""
    wire = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    index = socket.if_nametoindex(interface)
    passing = [0xFFFFFFFF] * 8
    passing[_SOLICITATION >> 5] &= ~(1 << (_SOLICITATION & 31))
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
    wire.setsockopt(socket.IPPROTO_ICMPV6, _ICMPV6_FILTER, struct.pack("8I", *passing))
    wire.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
    wire.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
    group = socket.inet_pton(socket.AF_INET6, "ff02::2") + struct.pack("@I", index)
    wire.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)
    wire.setblocking(False)
    return wire
