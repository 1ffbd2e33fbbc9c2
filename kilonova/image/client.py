"""Image over REST, as other services and hosts use it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from typing import Any

from kilonova.base.faults import Fault, Kind, unavailable
from kilonova.base.units import MIB
from kilonova.base.world import World
from kilonova.http.client import Client
from kilonova.image.contract import ImageRef, NewImage

_KNOWN = {
    "id", "name", "status", "visibility", "owner", "protected", "os_hidden", "disk_format", "container_format",
    "min_disk", "min_ram", "size", "virtual_size", "checksum", "os_hash_algo", "os_hash_value", "tags", "created_at",
    "updated_at", "self", "file", "schema", "locations", "direct_url", "stores",
}  # fmt: skip


class ImageClient:
    """Implements `image.contract.Images`."""

    def __init__(self, world: World, client: Client) -> None:
        self._world = world
        self._client = client

    async def show(self, token: str, image_id: str) -> ImageRef:
        image = (await self._client.request("GET", f"/v2/images/{image_id}", token=token)).json()
        return ImageRef(
            id=image["id"],
            name=image["name"] or "",
            status=image["status"],
            disk_format=image["disk_format"] or "",
            container_format=image["container_format"] or "",
            size=image["size"] or 0,
            min_ram_mb=image["min_ram"],
            min_disk_gb=image["min_disk"],
            owner=image["owner"] or "",
            visibility=image["visibility"],
            virtual_size=image["virtual_size"],
            checksum=image["checksum"] or "",
            hash_algo=image["os_hash_algo"] or "",
            hash_value=image["os_hash_value"] or "",
            properties={n: v for n, v in image.items() if n not in _KNOWN and isinstance(v, str)},
        )

    async def create(self, token: str, image: NewImage) -> None:
        body = {
            "id": image.id,
            "name": image.name,
            "disk_format": image.disk_format,
            "container_format": image.container_format,
            "min_ram": image.min_ram_mb,
            "min_disk": image.min_disk_gb,
            "visibility": "private",
            **image.properties,
        }
        await self._client.request("POST", "/v2/images", token=token, json=body)

    async def upload(self, token: str, image_id: str, path: str) -> None:
        await self._client.upload(f"/v2/images/{image_id}/file", self._chunks(path), token=token)

    async def _chunks(self, path: str) -> AsyncIterator[bytes]:
        file: Any = await self._world.blocking(open, path, "rb")
        try:
            while chunk := await self._world.blocking(file.read, MIB):
                yield chunk
        finally:
            file.close()

    async def delete(self, token: str, image_id: str) -> None:
        try:
            await self._client.request("DELETE", f"/v2/images/{image_id}", token=token)
        except Fault as fault:
            if fault.kind is not Kind.NOT_FOUND:
                raise

    async def download(self, token: str, image_id: str, path: str) -> None:
        image = await self.show(token, image_id)
        digest = hashlib.new(image.hash_algo or "sha512")
        file: Any = await self._world.blocking(open, path, "wb")
        try:
            gathered = bytearray()
            async for chunk in self._client.stream(f"/v2/images/{image_id}/file", token=token):
                gathered += chunk
                if len(gathered) >= MIB:
                    await self._world.blocking(_put, file, digest, bytes(gathered))
                    gathered.clear()
            await self._world.blocking(_put, file, digest, bytes(gathered))
        except BaseException:  # edge: nothing half-written stays, whatever ended it
            await self._world.blocking(_abandon, file, path)
            raise
        await self._world.blocking(file.close)
        if image.hash_value and digest.hexdigest() != image.hash_value:
            await self._world.blocking(os.unlink, path)
            raise unavailable(
                f"The data of image {image_id} does not match its checksum.",
                hint="The image is damaged: upload it again.",
                inside=f"{digest.hexdigest()} != {image.hash_value}",
            )


def _put(file: Any, digest: Any, chunk: bytes) -> None:
    file.write(chunk)
    digest.update(chunk)


def _abandon(file: Any, path: str) -> None:
    file.close()
    os.unlink(path)
