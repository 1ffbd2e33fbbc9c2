"""An image that a host asks the image service for, in the name of who wants it there."""

from __future__ import annotations

from kilonova.image.contract import Images, Trust


class AskedImage:
    """Implements `image.contract.RemoteImage` over the image service's API, with one caller's token."""

    def __init__(self, images: Images, token: str, image_id: str, trust: Trust) -> None:
        self._images = images
        self._token = token
        self._trust = trust
        self._fetched = False
        self.id = image_id

    async def room_bytes(self) -> int:
        image = await self._images.show(self._token, self.id)
        return max(image.size, image.virtual_size or 0)

    async def fetch(self, path: str) -> None:
        await self._images.download(self._token, self.id, path, self._trust)
        self._fetched = True

    async def places(self) -> list[str]:
        image = await self._images.show(self._token, self.id)
        return await self._images.places(self._token, self.id) if image.disk_format == "raw" else []

    async def settle(self) -> None:
        """Nothing when the image was fetched, as its download checked everything. An image that was here already came
        with the rights and for the demands of somebody else: FORBIDDEN or INVALID when it is not for this caller."""
        if not self._fetched:
            await self._images.prove(self._token, self.id, self._trust)
