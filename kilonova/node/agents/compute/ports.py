"""Ports of a server: made or adopted, bound to this host, waited for."""

from __future__ import annotations

import asyncio

from kilonova.base.faults import unavailable
from kilonova.compute.contract import ServerForHost
from kilonova.network.contract import PortBinding, ServerNics
from kilonova.node.agents.compute.core import HostCore
from kilonova.node.ledger import idempotency_key


class PortVerbs(HostCore):
    """Bind, and wait until network says that the ports are up."""

    async def _bind_ports(self, server: ServerForHost) -> list[PortBinding]:
        """A port for each that was asked for, made or adopted, bound here."""
        if not server.port_requests:
            return []
        nics = ServerNics(
            server_id=server.id,
            hostname=server.hostname,
            project_id=server.project_id,
            availability_zone=server.availability_zone,
            host=self.host,
            requests=tuple(server.port_requests),
            security_groups=tuple(server.security_groups),
        )
        return await self.peers.networks.bind(await self._token(), idempotency_key(), nics)

    async def external_instance_event(self, server_id: str, event: str, tag: str) -> None:
        if event == "network-vif-plugged":
            self._event(tag).set()

    async def _ports_up(self, token: str, server: ServerForHost) -> None:
        await self._wait_for_ports(token, server.id, server.ports)

    async def _wait_for_ports(self, token: str, server_id: str, ports: list[PortBinding]) -> None:
        """Wait for network's word on every port; ask it now and then, in case the word was lost."""
        deadline = self.world.clock.monotonic() + self.settings.vif_plugging_timeout_seconds
        down = {port.id for port in ports if port.status != "ACTIVE" and not self._event(port.id).is_set()}
        pause = 2.0
        while down:
            waits = [self.world.spawn(self._event(port).wait(), f"port {port}") for port in sorted(down)]
            await asyncio.wait(waits, timeout=pause)
            for wait in waits:
                wait.cancel()
            down = {port for port in down if not self._event(port).is_set()}
            if down:
                now = await self.peers.networks.port_states(token, server_id)
                down -= {port_id for port_id, status in now.items() if status == "ACTIVE"}
            if down and self.world.clock.monotonic() > deadline:
                raise unavailable(
                    "The server's network did not become ready in time.",
                    hint="The operator finds the reason in the log of the host's L2 agent.",
                    inside=f"ports {sorted(down)} on {self.host}",
                )
            pause = min(pause * 2, 10.0)
        for port in ports:
            self._plugged.pop(port.id, None)
