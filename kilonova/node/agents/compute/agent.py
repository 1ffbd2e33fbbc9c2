"""The compute agent: does one host's part of every server operation, and reports what the host has.

Its verbs are the steps of the operations in `compute/server/*.py`; each may be repeated and leaves nothing behind
when it raises. It asks image, network and block storage over REST with the user's token (or its own, when an
operation outlives the user's), and asks the conductor for everything about a server: it reads no database.
"""

from __future__ import annotations

from kilonova.compute.contract import Screen
from kilonova.node.agents.compute.hot_plug import HotPlugVerbs
from kilonova.node.agents.compute.inside import InsideVerbs
from kilonova.node.agents.compute.rescue import RescueVerbs
from kilonova.node.agents.compute.snapshot import SnapshotVerbs
from kilonova.node.console_relay import ConsoleRelay


class ComputeHostAgent(RescueVerbs, HotPlugVerbs, SnapshotVerbs, InsideVerbs):
    """Implements `ComputeHost` (journalled) and `ComputeAgent` (plain) of compute's contract."""

    async def external_instance_event(self, server_id: str, event: str, tag: str) -> None:
        if event == "volume-extended":
            await self.disk_grew(server_id, tag)
        else:
            await super().external_instance_event(server_id, event, tag)

    async def get_console_output(self, server_id: str, length: int | None) -> str:
        return await self.machine.disks.console_log(server_id, length)

    relay: ConsoleRelay | None = None  # set where the console proxy is on another machine

    async def get_vnc_console(self, server_id: str) -> Screen:
        address, port = await self.machine.hypervisor.vnc_address(server_id)
        return self.relay.admit(address, port) if self.relay is not None else Screen(address, port)
