"""The network worker: answers agents, and runs the loops that make wishes true."""

from __future__ import annotations

from collections.abc import Sequence

from kilonova.bus import rpc
from kilonova.bus.contract import Subscription
from kilonova.network.contract import EXCHANGE, PLUGIN_TOPIC, Plugin
from kilonova.network.core import NetworkService
from kilonova.network.plugin import PluginService
from kilonova.network.reconcile import LOOPS
from kilonova.network.work import Event
from kilonova.saga.loops import Loops


class NetworkWorker:
    """Serves `q-plugin`. Several may run: agents' calls are shared, loops may run twice without harm.

    The service's bus must speak as `q-plugin.HOST`, or agents refuse the answers.
    """

    def __init__(self, network: NetworkService, host: str) -> None:
        self.network = network
        self.host = host
        self.loops = Loops(network.world, network, LOOPS)
        self.plugin = PluginService(self)
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        """Begin to serve and to look after things."""
        self.network.on_events = self._send
        served = rpc.handlers(Plugin, self.plugin)
        self._subscription = await self.network.bus.serve(EXCHANGE, PLUGIN_TOPIC, self.host, served)
        self.loops.start()

    def _send(self, events: Sequence[Event]) -> None:
        self.network.events += events
        self.loops.wake("outbox")

    async def close(self) -> None:
        """Take no new message; loops end with the world."""
        if self._subscription is not None:
            await self._subscription.close()
