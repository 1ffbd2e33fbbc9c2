"""Work: what every unit of network's database is given, and Changes: whom it found must be told after the commit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

import msgspec
from sqlalchemy import Connection

from kilonova.base.world import World
from kilonova.network.contract import Lease, PortNews
from kilonova.network.settings import NetworkSettings

Told = defaultdict[str, set[str]]


_told = partial(defaultdict[str, set[str]], set)


class Event(msgspec.Struct, frozen=True):
    """`network-vif-plugged` and its kind, for one server's port, as it waits in the outbox."""

    id: str
    event: str
    server_id: str
    port_id: str
    tries: int
    due_at: datetime
    created_at: datetime


@dataclass
class Changes:
    """Host → ids that its agent must fetch again. Filled inside the unit, sent when it is committed."""

    ports: Told = field(default_factory=_told)
    members: Told = field(default_factory=_told)  # networks whose VTEPs or groups changed for that host
    news: dict[str, dict[str, PortNews]] = field(default_factory=dict)  # host → port → what there is to know of it
    dhcp: Told = field(default_factory=_told)
    leases: dict[str, dict[str, Lease]] = field(default_factory=dict)  # host → port → what its DHCP server says to it
    routers: Told = field(default_factory=_told)
    events: list[Event] = field(default_factory=list)  # what compute has to hear: the outbox holds it

    def port(self, host: str, port_id: str) -> None:
        """The host must build, mend or drop this port."""
        if host:
            self.ports[host].add(port_id)

    def heard(self, host: str, news: PortNews) -> None:
        """The host must know this of a port, which need not be its own."""
        self.news.setdefault(host, {})[news.member.port_id] = news

    def network_members(self, where: Iterable[tuple[str, str]]) -> None:
        """(host, network) pairs whose tunnels or security groups changed."""
        for host, network_id in where:
            self.members[host].add(network_id)


class Draw:
    """New ids, MACs, numbers and the time, from the process's World."""

    def __init__(self, world: World) -> None:
        self._world = world

    def id(self) -> str:
        """A new UUID."""
        return self._world.ids.uuid()

    def mac(self) -> str:
        """A random address in the field's usual range fa:16:3e:…"""
        number = self._world.random.getrandbits(24)
        return f"fa:16:3e:{number >> 16:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"

    def between(self, first: int, last: int) -> int:
        """A whole number, both ends included."""
        return self._world.random.randint(first, last)

    def now(self) -> datetime:
        """The time that rows are stamped with."""
        return self._world.clock.now()


@dataclass
class Work:
    """One unit at work: its connection, where ids come from, and who must hear of it afterwards."""

    connection: Connection
    draw: Draw
    settings: NetworkSettings
    changes: Changes = field(default_factory=Changes)
