"""Boot a guest of this host from a rescue disk, with its own disks beside it, and end that again."""

from __future__ import annotations

from kilonova.compute.contract import Power
from kilonova.node.agents.compute.build import BuildVerbs
from kilonova.node.agents.compute.power import PowerVerbs
from kilonova.node.agents.compute.resize import ResizeVerbs
from kilonova.trace import spans


class RescueVerbs(BuildVerbs, PowerVerbs, ResizeVerbs):
    """The host's part of rescue and unrescue. A guest whose record says that it is rescued is started as such."""

    async def bring_image(self, server_id: str, image_id: str) -> None:
        server = await self._record(server_id)
        await self._bring_image(await self._token(), image_id, self._trust(server))

    async def rescue(self, server_id: str) -> Power:
        server = await self._record(server_id)
        await self._ports_up(await self._token(), server)
        async with self._lock(server_id):
            await self._off(server_id)
            spans.note("the rescue disk over the cached image, the server's own disks after it", host=self.host)
        return await self._start(server)

    async def unrescue(self, server_id: str) -> None:
        async with self._lock(server_id):
            await self._off(server_id)
            await self.machine.disks.drop_rescue_disks(server_id)

    async def forget_rescue_disks(self, server_id: str) -> None:
        async with self._lock(server_id):
            await self.machine.disks.drop_rescue_disks(server_id)
