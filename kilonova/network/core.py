"""What network's handlers and loops stand on: the database, the bus to the agents, the operator's settings."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from kilonova.base.world import World
from kilonova.bus import rpc
from kilonova.bus.contract import Bus, Target
from kilonova.db.database import Database
from kilonova.network import contract
from kilonova.network.contract import ServerEvents
from kilonova.network.settings import NetworkSettings
from kilonova.network.work import Changes, Draw, Event, Work

P = ParamSpec("P")
T = TypeVar("T")
COLLISIONS = 4


def _nobody_sends(_: Sequence[Event]) -> None:
    """Until a worker of this process says that it sends them: another's loop finds them in the outbox."""


@dataclass
class NetworkService:
    """Handed to every handler and loop. `server_events` is how compute hears; None when nobody listens."""

    world: World
    db: Database
    bus: Bus
    settings: NetworkSettings = field(default_factory=NetworkSettings)
    server_events: ServerEvents | None = None
    on_events: Callable[[Sequence[Event]], None] = _nobody_sends
    events: list[Event] = field(default_factory=list)  # put in the outbox by this process, and not sent by it yet
    outbox_read_at: float = 0.0  # by the monotonic clock

    def __post_init__(self) -> None:
        self.draw = Draw(self.world)

    async def change(self, unit: Callable[Concatenate[Work, P], T], *args: P.args, **named: P.kwargs) -> T:
        """What `unit` returns, once committed and told to the agents whom it concerns."""

        @functools.wraps(unit)
        def whole(connection: Connection) -> tuple[T, Changes]:
            work = Work(connection, self.draw, self.settings)
            return unit(work, *args, **named), work.changes

        for _ in range(COLLISIONS):
            try:
                result, changes = await self.db.write(whole)
                break
            except IntegrityError:
                continue  # another process wrote the same key first: the unit looks again and chooses, or says so
        else:
            result, changes = await self.db.write(whole)
        await self._tell(changes)
        return result

    async def _tell(self, changes: Changes) -> None:
        """Cast to the agents. A message that is lost with this process is mended by the agents' own resync."""
        for host in sorted(changes.ports.keys() | changes.members.keys() | changes.news.keys()):
            to = Target(contract.EXCHANGE, contract.L2_TOPIC, host)
            l2: contract.L2Agent = rpc.client(contract.L2Agent, self.bus, to)
            ports, networks = changes.ports.get(host, ()), changes.members.get(host, ())
            await l2.l2_changed(sorted(ports), sorted(networks), list(changes.news.get(host, {}).values()))
        for host in sorted(changes.dhcp.keys() | changes.leases.keys()):
            to = Target(contract.EXCHANGE, contract.DHCP_TOPIC, host)
            whole = changes.dhcp.get(host, set())
            leases = [one for one in changes.leases.get(host, {}).values() if one.network_id not in whole]
            await rpc.client(contract.DhcpAgent, self.bus, to).dhcp_changed(sorted(whole), leases)
        for host, router_ids in sorted(changes.routers.items()):
            to = Target(contract.EXCHANGE, contract.L3_TOPIC, host)
            await rpc.client(contract.L3Agent, self.bus, to).routers_changed(sorted(router_ids))
        if changes.events:
            self.on_events(changes.events)
