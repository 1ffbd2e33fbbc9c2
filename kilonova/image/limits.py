"""Unified limits: what identity registers for the image service, and what single projects have instead."""

from __future__ import annotations

from kilonova.base.world import World
from kilonova.http.client import Client

KNOWN_FOR_SECONDS = 5.0


class UnifiedLimits:
    """Implements `image.contract.ImageLimits` over identity, with the caller's token: projects see their own limits."""

    def __init__(self, world: World, identity: Client) -> None:
        self._world = world
        self._identity = identity
        self._service_id = ""
        self._known: dict[str, tuple[float, dict[str, int]]] = {}

    async def of(self, token: str, project_id: str) -> dict[str, int]:
        now = self._world.clock.monotonic()
        known = self._known.get(project_id)
        if known is not None and now - known[0] < KNOWN_FOR_SECONDS:
            return known[1]
        found = await self._ask(token, project_id)
        if len(self._known) > 10_000:
            self._known.clear()
        self._known[project_id] = (now, found)
        return found

    async def _ask(self, token: str, project_id: str) -> dict[str, int]:
        query = {"service_id": await self._service(token)}
        reply = await self._identity.request("GET", "/v3/registered_limits", token=token, query=query)
        found = {str(one["resource_name"]): int(one["default_limit"]) for one in reply.json()["registered_limits"]}
        if found and project_id:
            query["project_id"] = project_id
            reply = await self._identity.request("GET", "/v3/limits", token=token, query=query)
            found |= {str(one["resource_name"]): int(one["resource_limit"]) for one in reply.json()["limits"]}
        return found

    async def _service(self, token: str) -> str:
        """The image service's id: it stands in every catalog."""
        if not self._service_id:
            reply = await self._identity.request("GET", "/v3/auth/catalog", token=token)
            self._service_id = next(one["id"] for one in reply.json()["catalog"] if one["type"] == "image")
        return self._service_id
