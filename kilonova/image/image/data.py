"""An image's bytes: upload (hashed and inspected while they stream), download (with ranges)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from kilonova.base.faults import Fault, Kind, conflict, invalid, too_large
from kilonova.base.units import MIB
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.image.image import store
from kilonova.image.image.resource import OWNER, READ, owned, seen, target
from kilonova.image.image.store import Image
from kilonova.image.inspect.formats import Found, Inspector, refusal
from kilonova.policy.rules import Rule

if TYPE_CHECKING:
    from kilonova.image.service import ImageService

PIECE_BYTES = 1 * MIB
HASH = "sha512"
_RANGE = re.compile(r"bytes=(\d*)-(\d*)\Z")


class _Reading:
    """Hashes and inspects what passes; gathers small network chunks into pieces."""

    def __init__(self, service: ImageService, chunks: AsyncIterator[bytes], limit_bytes: int) -> None:
        self._service = service
        self._chunks = chunks
        self._limit = limit_bytes
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha = hashlib.new(HASH)
        self._inspector = Inspector()

    async def pieces(self) -> AsyncIterator[bytes]:
        """The bytes, at most PIECE_BYTES or one network chunk at a time."""
        gathered = bytearray()
        async for chunk in self._chunks:
            gathered += chunk
            if len(gathered) >= PIECE_BYTES:
                yield await self._seen(bytes(gathered))
                gathered.clear()
        if gathered:
            yield await self._seen(bytes(gathered))

    async def _seen(self, piece: bytes) -> bytes:
        if self._inspector.size_bytes + len(piece) > self._limit:
            raise too_large(f"The image data is larger than the limit of {self._limit} bytes.")
        await self._service.world.blocking(self._digest, piece)
        return piece

    def _digest(self, piece: bytes) -> None:
        self._md5.update(piece)
        self._sha.update(piece)
        self._inspector.feed(piece)

    def found(self) -> Found:
        """What the bytes are."""
        return self._inspector.found()

    def facts(self, found: Found) -> dict[str, Any]:
        """The columns that an active image has."""
        return {
            "status": "active",
            "size": self._inspector.size_bytes,
            "virtual_size": found.virtual_size_bytes,
            "checksum": self._md5.hexdigest(),
            "os_hash_algo": HASH,
            "os_hash_value": self._sha.hexdigest(),
        }


async def upload(service: ImageService, request: Request[Any]) -> None:
    """PUT /v2/images/{id}/file: stream, hash, inspect; active, or back to queued with nothing kept."""
    if request.headers.get("content-type", "").split(";")[0].strip() != "application/octet-stream":
        raise Fault(Kind.INVALID, "Unsupported Media Type", hint="Send application/octet-stream.", data={"status": 415})
    image = await seen(service, request)
    request.enforce(target(image))
    owned(request, image)
    if not image.disk_format or not image.container_format:
        raise invalid("Properties disk_format, container_format must be set prior to saving data.")
    await _room(service, request)
    await service.db.write(store.begin_upload, image.id, service.world.clock.now())
    ended: dict[str, Any] = {"status": "queued"}
    try:
        ended = await _save(service, image, request)
    finally:
        if not await service.db.write(store.end_upload, image.id, ended, service.world.clock.now()):
            await service.data.drop(image.id)
            ended = {}
    if not ended:
        raise Fault(Kind.NOT_FOUND, f"Image {image.id} was deleted while its data was uploaded.", data={"status": 410})


async def _save(service: ImageService, image: Image, request: Request[Any]) -> dict[str, Any]:
    reading = _Reading(service, request.stream(), service.settings.image_size_cap_bytes)
    try:
        await service.data.save(image.id, reading.pieces())
        found = reading.found()
        if why := refusal(image.disk_format or "", found):
            raise Fault(
                Kind.INVALID, f"Image {image.id} was refused: {why}", hint="Upload data of the declared format."
            )
        return reading.facts(found)
    except BaseException:  # edge: nothing half-written stays, whatever ended it
        await service.data.drop(image.id)
        raise


async def _room(service: ImageService, request: Request[Any]) -> None:
    declared = request.headers.get("content-length", "")
    if declared.isdigit():
        if int(declared) > service.settings.image_size_cap_bytes:
            raise too_large(f"The image data is larger than {service.settings.image_size_cap_bytes} bytes.")
        if int(declared) > await service.data.free_bytes():
            raise too_large("The image store has no room for this image.", hint="The operator must free disk space.")


async def download(service: ImageService, request: Request[Any]) -> Answer:
    """GET /v2/images/{id}/file: 200 with all, 206 with a range, 204 when there is no data yet."""
    image = await seen(service, request)
    request.enforce(target(image))
    if image.status == "queued":
        return Answer(None, 204)
    if image.status != "active" or image.size is None:
        raise conflict(f"Image {image.id} is {image.status}: it has no data to download yet.")
    start, end = _range(request.headers.get("range", ""), image.size)
    headers = {"content-length": str(end - start), "content-md5": image.checksum or ""}
    status = 200
    if (start, end) != (0, image.size):
        status = 206
        headers["content-range"] = f"bytes {start}-{end - 1}/{image.size}"
    stream = service.data.read(image.id, start, end)
    return Answer(None, status, headers, "application/octet-stream", stream)


def _range(header: str, size: int) -> tuple[int, int]:
    """(start, end) of one byte range (RFC 9110 §14); none or an unknown unit is everything."""
    wanted = _RANGE.match(header.strip())
    if not wanted or not (wanted[1] or wanted[2]):
        return 0, size
    if wanted[1]:
        start, end = int(wanted[1]), min(int(wanted[2]) + 1, size) if wanted[2] else size
    else:
        start, end = max(size - int(wanted[2]), 0), size
    if start >= end:
        raise Fault(
            Kind.INVALID,
            "The requested range lies outside the image.",
            data={"status": 416, "headers": {"content-range": f"bytes */{size}"}},
        )
    return start, end


RULES = (
    Rule("upload_image", OWNER, "Upload an image's data.", (("PUT", "/v2/images/{image_id}/file"),)),
    Rule("download_image", READ, "Download an image's data.", (("GET", "/v2/images/{image_id}/file"),)),
)
ROUTES = (
    Route(
        method="PUT", path="/v2/images/{image_id}/file", handler=upload, policy="upload_image", raw=True, success=204
    ),
    Route(method="GET", path="/v2/images/{image_id}/file", handler=download, policy="download_image"),
)
