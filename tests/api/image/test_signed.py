"""Signed images at every door where data comes in, and before a host uses them."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kilonova.base.faults import Fault, Kind
from kilonova.http.client import AsgiTransport, Client
from kilonova.image.certificates import DirectoryCertificates
from kilonova.image.client import ImageClient
from kilonova.image.contract import Trust
from kilonova.node.images.inspector import ConfinedInspector
from tests.api.image.door import WholeImage, whole_image
from tests.unit.image.signing import CERTIFICATE_ID, Authority, new_key, signed

ROOT_ID = "0c5e0000-0000-4000-8000-00000000000f"
DATA = bytes(range(256)) * 2000
BEFORE = {"signed": True}


class Signer:
    """A root, an image's certificate under it, and both where the cloud's key manager looks."""

    def __init__(self, directory: Path, kind: str = "ECC_SECP384R1") -> None:
        now = datetime.now(UTC)
        self.kind = kind
        self.root = Authority("root", now=now)
        self.own = Authority("image", self.root, key=new_key(kind), ca=False, now=now)
        self.folder = directory / "certificates"
        self.folder.mkdir(exist_ok=True)
        (self.folder / f"{ROOT_ID}.pem").write_bytes(self.root.pem)
        (self.folder / f"{CERTIFICATE_ID}.pem").write_bytes(self.own.pem)

    def properties(self, data: bytes = DATA) -> dict[str, str]:
        """Of an image with that data."""
        return signed(self.own.key, data, self.kind)


async def by_upload(image: WholeImage, image_id: str, data: bytes) -> bool:
    reply = await image.api.send("PUT", f"/v2/images/{image_id}/file", data, content_type="application/octet-stream")
    assert reply.status == 204 or (reply.status == 400 and b"ignature" in reply.content), reply.content
    return reply.status == 204


async def by_staging(image: WholeImage, image_id: str, data: bytes) -> bool:
    await image.put(image_id, data, "stage")
    await image.import_(image_id, "glance-direct", all_stores=True)
    return str((await image.ended(image_id))["status"]) == "success"


async def from_the_web(image: WholeImage, image_id: str, data: bytes) -> bool:
    await image.import_(image_id, "web-download", uri=image.web.url("/x", data), all_stores=True)
    return str((await image.ended(image_id))["status"]) == "success"


@pytest.mark.parametrize("enter", [by_upload, by_staging, from_the_web], ids=lambda door: door.__name__)
async def test_what_the_signature_is_not_of_leaves_nothing(tmp_path: Path, enter: Any) -> None:
    async with whole_image(tmp_path) as image:
        signer = Signer(tmp_path)
        good = await image.create(**signer.properties())
        assert await enter(image, good, DATA)
        assert (await image.show(good))["status"] == "active"
        kept = image.kept()
        bad = await image.create(**signer.properties())
        assert not await enter(image, bad, DATA[:-1] + b"!")
        shown = await image.show(bad)
        assert (shown["status"], shown["os_hash_value"], shown["size"]) == ("queued", None, None)
        assert image.kept() == kept


@pytest.mark.parametrize("certificate", ["0c5e0000-0000-4000-8000-0000000000ff", "../../etc/passwd", "x"])
async def test_a_certificate_that_nobody_keeps(tmp_path: Path, certificate: str) -> None:
    async with whole_image(tmp_path) as image:
        said = Signer(tmp_path).properties() | {"img_signature_certificate_uuid": certificate}
        image_id = await image.create(**said)
        reply = await image.put(image_id, DATA, status=400)
        assert b"ertificate" in reply.content and b"passwd" not in reply.content.replace(certificate.encode(), b"")
        assert (await image.show(image_id))["status"] == "queued"
        assert image.kept() == {"first": [], "second": []}


async def test_a_cloud_without_a_key_manager_says_so(tmp_path: Path) -> None:
    async with whole_image(tmp_path) as image:
        image.service.parts = dataclasses.replace(image.service.parts, certificates=None)
        image_id = await image.create(**Signer(tmp_path).properties())
        assert b"no key manager" in (await image.put(image_id, DATA, status=400)).content
        assert image.kept() == {"first": [], "second": []}


def images(image: WholeImage, directory: Path) -> ImageClient:
    """Image as a host sees it."""
    world = image.service.world
    certificates = DirectoryCertificates(world, directory / "certificates")
    return ImageClient(world, Client(AsgiTransport(image.app)), certificates, ConfinedInspector(world))


async def test_a_host_takes_only_what_proves_what_it_must(tmp_path: Path) -> None:
    async with whole_image(tmp_path) as image:
        signer, host, path = Signer(tmp_path), images(image, tmp_path), tmp_path / "on-host"
        good, plain = await image.create(**signer.properties()), await image.create()
        for image_id in (good, plain):
            await image.put(image_id, DATA)
        rooted, own = Trust(True, (ROOT_ID,)), Trust(True, (CERTIFICATE_ID,))

        async def refused(image_id: str, trust: Trust, why: str) -> None:
            for use in (host.download(PERSONA, image_id, str(path), trust), host.prove(PERSONA, image_id, trust)):
                with pytest.raises(Fault, match=why) as fault:
                    await use
                assert fault.value.kind is Kind.INVALID and not path.exists()

        for trust in (Trust(True), rooted):
            await host.download(PERSONA, good, str(path), trust)
            assert path.read_bytes() == DATA
            path.unlink()
            await host.prove(PERSONA, good, trust)
        await refused(plain, Trust(True), "not signed")
        await refused(plain, rooted, "not signed")
        await refused(good, own, "no certificate that is trusted")
        await refused(good, Trust(True, ("nonsense",)), "must be a UUID")
        await refused(good, Trust(True, (CERTIFICATE_ID[:-1] + "e",)), "not in the key manager")


PERSONA = "member"


async def test_a_signature_that_was_changed_after_the_upload_is_not_believed(tmp_path: Path) -> None:
    kind = "application/openstack-images-v2.1-json-patch"
    async with whole_image(tmp_path) as image:
        signer, host = Signer(tmp_path), images(image, tmp_path)
        image_id = await image.create(**signer.properties())
        await image.put(image_id, DATA)
        await host.prove(PERSONA, image_id, Trust(True))
        change = {"op": "replace", "path": "/img_signature", "value": signer.properties(b"other")["img_signature"]}
        assert (await image.api.send("PATCH", f"/v2/images/{image_id}", [change], content_type=kind)).status == 200
        with pytest.raises(Fault, match="verification for the image failed"):
            await host.prove(PERSONA, image_id, Trust(True))


async def test_bytes_that_are_on_the_host_still_need_the_right_to_have_them(tmp_path: Path) -> None:
    async with whole_image(tmp_path) as image:
        host = images(image, tmp_path)
        image_id, empty = await image.create(), await image.create()
        await image.put(image_id, DATA)
        await image.put(empty, b"")
        await host.prove(PERSONA, image_id)
        await host.prove(PERSONA, empty)
        with pytest.raises(Fault) as unseen:
            await host.prove("other", image_id)
        assert unseen.value.kind is Kind.NOT_FOUND
        await image.api.as_("admin").post(f"/v2/images/{image_id}/actions/deactivate", None, 204)
        with pytest.raises(Fault) as deactivated:
            await host.prove(PERSONA, image_id)
        assert deactivated.value.kind is Kind.FORBIDDEN
