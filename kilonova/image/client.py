"""Image over REST, as other services and hosts use it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

from kilonova.base.faults import Fault, Kind, invalid, unavailable
from kilonova.base.units import MIB
from kilonova.base.world import World
from kilonova.http.client import Client
from kilonova.image.contract import NOT_ASKED, Certificates, DiskInspector, ImageRef, NewImage, Trust
from kilonova.image.image import trust as proofs
from kilonova.image.image.signature import NAMES, Verifier
from kilonova.image.inspect.ends import Collector, refusal, remedy

_KNOWN = {
    "id", "name", "status", "visibility", "owner", "protected", "os_hidden", "disk_format", "container_format",
    "min_disk", "min_ram", "size", "virtual_size", "checksum", "os_hash_algo", "os_hash_value", "tags", "created_at",
    "updated_at", "self", "file", "schema", "locations", "direct_url", "stores",
}  # fmt: skip


class ImageClient:
    """Implements `image.contract.MadeImages`. `certificates` is asked for those of images that must prove something;
    without an `inspector` no data is taken."""

    def __init__(
        self,
        world: World,
        client: Client,
        certificates: Certificates | None = None,
        inspector: DiskInspector | None = None,
    ) -> None:
        self._world = world
        self._client = client
        self._certificates = certificates
        self._inspector = inspector
        self._proven: set[tuple[str, ...]] = set()  # signatures that were verified against their data

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

    async def describe(self, token: str, image_id: str, properties: dict[str, str]) -> None:
        changes = [{"op": "add", "path": f"/{name}", "value": value} for name, value in properties.items()]
        headers = {"content-type": "application/openstack-images-v2.1-json-patch"}
        body = json.dumps(changes).encode()
        await self._client.send_bytes("PATCH", f"/v2/images/{image_id}", body, token=token, headers=headers)

    async def newest_first(self, token: str, properties: dict[str, str]) -> list[str]:
        query = urlencode({**properties, "status": "active", "sort": "created_at:desc", "limit": "1000"})
        found = (await self._client.request("GET", f"/v2/images?{query}", token=token)).json()["images"]
        return [image["id"] for image in found]

    async def activate_empty(self, token: str, image_id: str) -> None:
        headers = {"content-type": "application/octet-stream"}
        try:
            await self._client.send_bytes("PUT", f"/v2/images/{image_id}/file", b"", token=token, headers=headers)
        except Fault as fault:
            if fault.kind is not Kind.CONFLICT or (await self.show(token, image_id)).status != "active":
                raise

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

    async def download(self, token: str, image_id: str, path: str, trust: Trust = NOT_ASKED) -> None:
        image = await self.show(token, image_id)
        arriving = await self._arriving(token, image, trust)
        file: Any = await self._world.blocking(open, path, "wb")
        try:
            await self._pass(token, image_id, arriving, file)
            await self._world.blocking(file.close)
            await arriving.settle()
        except BaseException:  # edge: nothing half-written or unproven stays, whatever ended it
            await self._world.blocking(_abandon, file, path)
            raise

    async def places(self, token: str, image_id: str) -> list[str]:
        try:
            told = (await self._client.request("GET", f"/v2/images/{image_id}/locations", token=token)).json()
        except Fault as fault:
            if fault.kind in (Kind.FORBIDDEN, Kind.NOT_FOUND):  # it does not tell us, or is older than that
                return []
            raise
        return [str(one["url"]) for one in told]

    async def prove(self, token: str, image_id: str, trust: Trust = NOT_ASKED) -> None:
        image = await self.show(token, image_id) if trust.asked else None
        arriving = await self._arriving(token, image, trust) if image else None
        said = (image_id, image.hash_value, *(image.properties.get(name, "") for name in NAMES)) if image else ()
        if arriving is None or said in self._proven:  # an image's data never changes: its hash says which it is
            await self._require_bytes(token, image_id)
            return
        await self._pass(token, image_id, arriving, None)
        await arriving.settle()
        if len(self._proven) > 10_000:
            self._proven.clear()
        self._proven.add(said)

    async def _require_bytes(self, token: str, image_id: str) -> None:
        """The first byte is asked for: only who may have all of them gets it."""
        try:
            await self._client.request(
                "GET", f"/v2/images/{image_id}/file", token=token, headers={"range": "bytes=0-0"}
            )
        except Fault as fault:
            if fault.data.get("peer_status") != 416:  # there is none: the image is empty
                raise

    async def _arriving(self, token: str, image: ImageRef, trust: Trust) -> Arriving:
        """What the image's bytes must pass; what is known to be wrong with it is refused before one is asked for."""
        verifier = None
        if trust.asked:
            now = self._world.clock.now()
            verifier = await proofs.verifier(self._certificates, token, image.properties, trust, now)
        if self._inspector is None:
            raise unavailable("This process takes no images' data: it has no inspector.")
        return Arriving(image, self._inspector, verifier)

    async def _pass(self, token: str, image_id: str, arriving: Arriving, file: Any) -> None:
        gathered = bytearray()
        async for chunk in self._client.stream(f"/v2/images/{image_id}/file", token=token):
            gathered += chunk
            if len(gathered) >= MIB:
                await self._world.blocking(arriving.put, file, bytes(gathered))
                gathered.clear()
        await self._world.blocking(arriving.put, file, bytes(gathered))


class Arriving:
    """An image's bytes on their way here: hashed, looked at once more, as images were registered before their data was,
    and verified when the image must prove something."""

    def __init__(self, image: ImageRef, inspector: DiskInspector, verifier: Verifier | None) -> None:
        self._image = image
        self._verifier = verifier
        self._inspector = inspector
        self._collector = Collector()
        self._digest = hashlib.new(image.hash_algo or "sha512", usedforsecurity=False)

    def put(self, file: Any, chunk: bytes) -> None:
        """The next bytes, written to `file` unless it is None. Blocks."""
        if file is not None:
            file.write(chunk)
        self._digest.update(chunk)
        self._collector.feed(chunk)
        if self._verifier is not None:
            self._verifier.update(chunk)

    async def settle(self) -> None:
        """All have passed. UNAVAILABLE when they are not the image's, INVALID when they are not what the image declares
        (also where it could be uploaded so), reach outside themselves, or their signature is not theirs."""
        image = self._image
        if image.hash_value and self._digest.hexdigest() != image.hash_value:
            raise unavailable(
                f"The data of image {image.id} does not match its checksum.",
                hint="The image is damaged: upload it again.",
                inside=f"{self._digest.hexdigest()} != {image.hash_value}",
            )
        found = await self._inspector.judge(self._collector.ends())
        if why := refusal(image.disk_format, found):
            raise invalid(f"Image {image.id} was refused: {why}", hint=remedy(found))
        if self._verifier is not None:
            self._verifier.verify()


def _abandon(file: Any, path: str) -> None:
    file.close()
    os.unlink(path)
