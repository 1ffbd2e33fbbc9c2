"""Compute over REST, for the services that tell it of events."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from kilonova.base.faults import Fault, Kind
from kilonova.http.client import Client

_VERSION = {"openstack-api-version": "compute 2.90"}


class ComputeEvents:
    """Implements network's and block storage's `ServerEvents`. `token` gives the calling service's own token."""

    def __init__(self, client: Client, token: Callable[[], Awaitable[str]]) -> None:
        self._client = client
        self._token = token

    async def port_events(self, events: list[tuple[str, str, str]]) -> None:
        """(event, server id, port id). Servers that are gone need no event."""
        await self._tell(events)

    async def volume_extended(self, server_id: str, volume_id: str) -> None:
        """A volume of the server is larger now."""
        await self._tell([("volume-extended", server_id, volume_id)])

    async def _tell(self, events: list[tuple[str, str, str]]) -> None:
        if not events:
            return
        body = {"events": [{"name": name, "server_uuid": server, "tag": tag} for name, server, tag in events]}
        try:
            await self._client.request(
                "POST", "/v2.1/os-server-external-events", token=await self._token(), json=body, headers=_VERSION
            )
        except Fault as fault:
            if fault.kind is not Kind.NOT_FOUND:
                raise
