"""Images that lie or reach outside (backing files, extents, bombs, replaced data), at every door of the image API.

OSSA-2015-011, OSSA-2023-002, OSSA-2024-001, OSSA-2024-002, OSSA-2013-012, OSSA-2016-006, OSSN-0065.
"""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.api.image.door import WholeImage, whole_image


def qcow2(*, backing: bytes = b"", virtual_size: int = 1 << 20, features: int = 0, extension: bytes = b"") -> bytes:
    """A qcow2 header, with what an attacker puts into it."""
    at = 104 + len(extension) if backing else 0
    head = struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", 3, at, len(backing), 16, virtual_size, 0, 1, 0, 0, 0, 0, 0)
    head += struct.pack(">QQQII", features, 0, 0, 4, 104)
    return (head + extension + backing).ljust(1024, b"\0")


def vmdk(descriptor: str) -> bytes:
    """A sparse VMDK whose descriptor says this."""
    text = descriptor.encode().ljust(1024, b"\0")
    return struct.pack("<4sIIQQQQ", b"KDMV", 1, 3, 2048, 128, 1, 2).ljust(512, b"\0") + text + bytes(4096)


DATA_FILE = struct.pack(">II", 0x44415441, 16) + b"/etc/shadow".ljust(16, b"\0") + bytes(8)
FLAT = '# Disk DescriptorFile\ncreateType="monolithicFlat"\nRW 8192 FLAT "/etc/shadow" 0\n'
SPARSE = """# Disk DescriptorFile
createType="monolithicSparse"
RW 8192 SPARSE "/var/lib/other.vmdk"
RW 1 FLAT "/etc/passwd" 0
"""
ATTACKS: dict[str, tuple[str, bytes]] = {
    "qcow2 over a host's file": ("qcow2", qcow2(backing=b"/etc/shadow")),
    "qcow2 over json:": ("qcow2", qcow2(backing=b'json:{"driver":"file","filename":"/etc/shadow"}')),
    "qcow2 over nbd://": ("qcow2", qcow2(backing=b"nbd://127.0.0.1:10809/x")),
    "qcow2 over http://": ("qcow2", qcow2(backing=b"http://169.254.169.254/latest")),
    "qcow2 with an external data file": ("qcow2", qcow2(features=1 << 2, extension=DATA_FILE)),
    "qcow2 that hides its data file's flag": ("qcow2", qcow2(extension=DATA_FILE)),
    "qcow2 with unknown features": ("qcow2", qcow2(features=1 << 40)),
    "qcow2 of 8 EiB": ("qcow2", qcow2(virtual_size=(1 << 63) - 512)),
    "vmdk descriptor alone": ("vmdk", FLAT.encode()),
    "vmdk with a flat extent": ("vmdk", vmdk(FLAT)),
    "vmdk with a second extent": ("vmdk", vmdk(SPARSE)),
    "qcow2 called raw": ("raw", qcow2()),
    "qcow2 with a backing file called raw": ("raw", qcow2(backing=b"/etc/shadow")),
    "vmdk called raw": ("raw", FLAT.encode()),
    "qcow2 called iso": ("iso", qcow2()),
    "qcow2 called ami": ("ami", qcow2()),
}


async def by_upload(image: WholeImage, image_id: str, data: bytes) -> str:
    reply = await image.put(image_id, data, "file", 400)
    return str(reply.json()["message"])


async def by_staging(image: WholeImage, image_id: str, data: bytes) -> str:
    await image.put(image_id, data, "stage")
    await image.import_(image_id, "glance-direct", all_stores=True)
    return str((await image.ended(image_id))["message"])


async def from_the_web(image: WholeImage, image_id: str, data: bytes) -> str:
    await image.import_(image_id, "web-download", uri=image.web.url("/x", data), all_stores=True)
    return str((await image.ended(image_id))["message"])


async def from_another_region(image: WholeImage, image_id: str, data: bytes) -> str:
    declared = (await image.show(image_id))["disk_format"]
    source = image.elsewhere(data, disk_format=declared)
    await image.import_(image_id, "glance-download", glance_image_id=source, glance_region="other", all_stores=True)
    return str((await image.ended(image_id))["message"])


async def at_a_location(image: WholeImage, image_id: str, data: bytes) -> str:
    await image.api.post(f"/v2/images/{image_id}/locations", {"url": image.web.url("/x", data)}, 202)
    return str((await image.ended(image_id))["message"])


DOORS: tuple[Callable[[WholeImage, str, bytes], Awaitable[str]], ...] = (
    by_upload, by_staging, from_the_web, from_another_region, at_a_location,
)  # fmt: skip


@pytest.mark.parametrize("enter", DOORS, ids=lambda door: door.__name__)
@pytest.mark.parametrize("attack", ATTACKS)
async def test_no_door_takes_it(tmp_path: Path, enter: Any, attack: str) -> None:
    disk_format, data = ATTACKS[attack]
    async with whole_image(tmp_path) as image:
        image_id = await image.create(disk_format=disk_format)
        assert "was refused" in await enter(image, image_id, data)
        shown = await image.show(image_id)
        assert (shown["status"], shown["os_hash_value"]) == ("queued", None)
        assert image.kept() == {"first": [], "second": []}


async def test_unsafe_data_is_refused_also_where_formats_need_not_match(tmp_path: Path) -> None:
    async with whole_image(tmp_path, require_image_format_match=False) as image:
        image_id = await image.create(disk_format="raw")
        assert "backing file" in await by_upload(image, image_id, qcow2(backing=b"/etc/shadow"))
        await image.put(image_id, qcow2())  # harmless, only misnamed: the operator chose to take it


async def test_data_is_never_replaced(tmp_path: Path) -> None:
    kind = "application/openstack-images-v2.1-json-patch"
    async with whole_image(tmp_path, show_multiple_locations=True) as image:
        image_id = await image.create()
        await image.put(image_id, b"good")
        path = f"/v2/images/{image_id}"
        for change in (
            {"op": "remove", "path": "/locations/0"},
            {"op": "replace", "path": "/locations", "value": []},
            {"op": "replace", "path": "/status", "value": "queued"},
            {"op": "replace", "path": "/checksum", "value": "0" * 32},
            {"op": "remove", "path": "/os_hash_value"},
        ):
            for who in ("member", "admin"):
                reply = await image.api.as_(who).send("PATCH", path, [change], content_type=kind)
                assert reply.status == 403, (who, change, reply.content)
        await image.put(image_id, b"evil", "file", 409)
        await image.put(image_id, b"evil", "stage", 409)
        await image.import_(image_id, "web-download", 409, uri=image.web.url("/evil", b"evil"))
        await image.api.post(f"{path}/locations", {"url": image.web.url("/evil")}, 409)
        sent = {"x-image-meta-status": "queued", "content-type": "application/octet-stream"}
        assert (await image.api.send("PUT", f"{path}/file", b"evil", **sent)).status == 409
        assert await image.api.get(f"{path}/file") == b"good"


async def test_one_upload_wins_and_a_broken_one_leaves_nothing(tmp_path: Path) -> None:
    import asyncio

    async with whole_image(tmp_path) as image:
        image_id = await image.create()
        path, kind = f"/v2/images/{image_id}/file", "application/octet-stream"
        sends = [image.api.send("PUT", path, bytes([n]) * 2_000_000, content_type=kind) for n in range(6)]
        statuses = sorted(reply.status for reply in await asyncio.gather(*sends))
        assert statuses == [204, 409, 409, 409, 409, 409]
        data = await image.api.get(path)
        assert len(data) == 2_000_000 and len(set(data)) == 1

        broken = await image.create()
        messages = iter(
            [{"type": "http.request", "body": b"x" * 100_000, "more_body": True}, {"type": "http.disconnect"}]
        )
        sent: list[Any] = []

        async def receive() -> Any:
            return next(messages)

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"x-auth-token", b"member"), (b"content-type", kind.encode())]
        scope = {"type": "http", "method": "PUT", "path": f"/v2/images/{broken}/file", "headers": headers}
        await image.app(scope, receive, send)
        assert (await image.show(broken))["status"] == "queued"
        assert image.kept() == {"first": [image_id], "second": []}


async def test_uploads_that_are_deleted_again_and_again_leave_nothing(tmp_path: Path) -> None:
    async with whole_image(tmp_path) as image:
        for door in ("file", "stage") * 3:
            image_id = await image.create()
            await image.put(image_id, b"x" * 10_000, door)
            await image.api.delete(f"/v2/images/{image_id}")
        assert image.kept() == {"first": [], "second": []}
        assert list((tmp_path / "images" / "partial").iterdir()) == []
