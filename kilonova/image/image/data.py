"""An image's bytes: upload (hashed while they stream, then inspected), staging, and download (with ranges)."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator
from typing import Any

from kilonova.base.faults import Fault, Kind, conflict, forbidden, invalid, too_large
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.image.core import ImageService
from kilonova.image.image import upload_store
from kilonova.image.image.reading import Passing, Reading
from kilonova.image.image.resource import DOWNLOAD, OWNER, owned, seen, target
from kilonova.image.image.store import Image, Location, get_image
from kilonova.image.image.upload import Upload
from kilonova.image.stores import STAGED, Store
from kilonova.policy.rules import Rule

log = logging.getLogger(__name__)

_RANGE = re.compile(r"bytes=(\d*)-(\d*)\Z")


async def _incoming(service: ImageService, request: Request[Any]) -> Image:
    """The image whose data the body is, once everything that can be known before a byte is read is right."""
    if request.headers.get("content-type", "").split(";")[0].strip() != "application/octet-stream":
        raise Fault(Kind.INVALID, "Unsupported Media Type", hint="Send application/octet-stream.", data={"status": 415})
    image = await seen(service, request)
    request.enforce(target(image))
    owned(request, image)
    if not image.disk_format or not image.container_format:
        raise invalid("Properties disk_format, container_format must be set prior to saving data.")
    return image


async def upload(service: ImageService, request: Request[Any]) -> Answer:
    """PUT /v2/images/{id}/file: stream, hash, inspect; active, or back to queued with nothing kept."""
    image = await _incoming(service, request)
    store = service.stores.to_write(request.headers.get("x-image-meta-store", ""))
    await _room(service, request, store)
    reading = await _reading(service, request, image)
    limits = await service.limits_of(request, image.owner)
    await _bring(service, image, reading, (store, image.id), limits)
    headers = {}
    if warning := service.stores.warning([store.id], image.disk_format):
        log.warning("image %s: %s", image.id, warning)
        headers["warning"] = f'299 - "{warning}"'  # RFC 7234 §5.5
    return Answer(None, 204, headers)


async def stage(service: ImageService, request: Request[Any]) -> None:
    """PUT /v2/images/{id}/stage: keep the bytes beside the images until they are imported."""
    image = await _incoming(service, request)
    await _room(service, request, service.stores.default)
    passing = Passing(request.stream(), service.settings.image_size_cap_bytes)
    limits = await service.limits_of(request, image.owner)
    await _bring(service, image, passing, (service.stores.default, STAGED + image.id), limits)


async def _reading(service: ImageService, request: Request[Any], image: Image) -> Reading:
    chunks, limit_bytes = request.stream(), service.settings.image_size_cap_bytes
    reading = Reading(service.world, chunks, limit_bytes, service.settings.hashing_algorithm)
    reading.verifier = await service.verifier(image, request.caller.token)
    return reading


async def _bring(
    service: ImageService, image: Image, coming: Reading | Passing, to: tuple[Store, str], limits: dict[str, int]
) -> None:
    store, key = to
    wanted = {"image_stage_total" if key.startswith(STAGED) else "image_size_total": 0, "image_count_uploading": 1}
    upload, now = Upload(service, image.id), service.world.clock.now
    await service.db.write(upload_store.begin_upload, image, upload.id, limits, wanted, now())
    holding = service.world.spawn(upload.hold_on(), "upload")
    ended: dict[str, Any] = {"status": "queued"}
    try:
        ended = await _save(service, image, coming, to, upload)
    finally:
        holding.cancel()
        if not await service.db.write(upload_store.end_upload, image.id, upload.id, ended, now()):
            ended = {}
    if not ended:
        await _lost(service, image, store, key)


async def _save(
    service: ImageService, image: Image, coming: Reading | Passing, to: tuple[Store, str], upload: Upload
) -> dict[str, Any]:
    store, key = to
    data = service.stores.data(store.id)
    try:
        await data.save(key, upload.only_while_held(coming.pieces()))
        if isinstance(coming, Passing):  # hashed and judged when it is imported, perhaps after a conversion
            return {"status": "uploading", "size": coming.size_bytes}
        match = service.settings.require_image_format_match
        facts = await coming.facts(service.inspector(), image, match=match)
        place = {"store": store.id, "url": "", "metadata": {}}
        return {"status": "active", "locations": [place], **facts.columns()}
    except BaseException:  # edge: nothing half-written stays, whatever ended it
        if await service.db.read(upload_store.is_held, image.id, upload.id):
            await data.drop(key)
        raise


async def _lost(service: ImageService, image: Image, store: Store, key: str) -> None:
    """The upload was given up while this process slept, and the image may have another's data: that is left alone. Or
    the image was deleted."""
    try:
        await service.db.read(get_image, image.id)
    except Fault:
        await service.stores.data(store.id).drop(key)
        gone = f"Image {image.id} was deleted while its data was uploaded."
        raise Fault(Kind.NOT_FOUND, gone, data={"status": 410}) from None
    raise conflict(f"The upload of image {image.id} was given up.", hint="Upload the data again.")


async def _room(service: ImageService, request: Request[Any], store: Store) -> None:
    declared = request.headers.get("content-length", "")
    if declared.isdigit():
        if int(declared) > service.settings.image_size_cap_bytes:
            raise too_large(f"The image data is larger than {service.settings.image_size_cap_bytes} bytes.")
        if int(declared) > await service.stores.data(store.id).free_bytes():
            raise too_large("The image store has no room for this image.", hint="The operator must free disk space.")


async def download(service: ImageService, request: Request[Any]) -> Answer:
    """GET /v2/images/{id}/file: 200 with all, 206 with a range, 204 when there is no data yet."""
    image = await seen(service, request)
    request.enforce(target(image))
    if image.status in ("queued", "uploading", "importing") and not image.places:
        return Answer(None, 204)
    if image.status == "deactivated" and not request.allows("context_is_admin"):
        raise forbidden("The requested image has been deactivated. Image data download is forbidden.")
    if image.status not in ("active", "deactivated"):
        raise conflict(f"Image {image.id} is {image.status}: it has no data to download yet.")
    if image.size is None:  # at a location that does not say how long it is
        return Answer(None, 200, {}, "application/octet-stream", read_all(service, image))
    start, end = _range(request.headers.get("range", ""), image.size)
    headers = {"content-length": str(end - start)}
    if image.checksum:
        headers["content-md5"] = image.checksum
    status = 200
    if (start, end) != (0, image.size):
        status = 206
        headers["content-range"] = f"bytes {start}-{end - 1}/{image.size}"
    stream = await service.copy_here(image, start, end)
    return Answer(None, status, headers, "application/octet-stream", stream or read(service, image, start, end))


async def read(service: ImageService, image: Image, start: int, end: int) -> AsyncIterator[bytes]:
    """The image's bytes from the heaviest store that has them, or from where a user said that they are."""
    ours = service.stores.in_order(place.store for place in image.places if not place.url)
    streams = [service.stores.data(store).read(image.id, start, end) for store in ours]
    streams += [service.web().read(place.url, start, end) for place in image.places if place.url]
    for left, stream in zip(reversed(range(len(streams))), streams, strict=True):
        begun = False
        try:
            async for chunk in stream:
                begun = True
                yield chunk
            return
        except Fault as fault:
            if begun or not left:
                raise
            log.warning("image %s: a store failed, the next is read: %r", image.id, fault)


def read_all(service: ImageService, image: Image) -> AsyncIterator[bytes]:
    """The bytes of an image whose length nobody said."""
    place: Location = image.places[0]
    return service.web().read(place.url)


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


_FILE, _STAGE = "/v2/images/{image_id}/file", "/v2/images/{image_id}/stage"
RULES = (
    Rule("upload_image", OWNER, "Upload an image's data.", (("PUT", _FILE),)),
    Rule("download_image", DOWNLOAD, "Download an image's data.", (("GET", _FILE),)),
)
ROUTES = (
    Route(method="PUT", path=_FILE, handler=upload, policy="upload_image", raw=True, success=204),
    Route(method="PUT", path=_STAGE, handler=stage, policy="modify_image", raw=True, success=204),
    Route(method="GET", path=_FILE, handler=download, policy="download_image", agents=True),
)
