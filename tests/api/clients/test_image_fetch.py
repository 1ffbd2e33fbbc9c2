"""`kilonova image fetch` as an operator types it: an image from a web server, verified, into a running cloud."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.api.image.web_server import web_server
from tests.fake_cloud import FakeCloud

DATA = bytes(range(256)) * 20_000


def test_an_image_comes_by_name(cloud: FakeCloud, tmp_path: Path) -> None:
    with web_server() as web:
        web.redirects["/latest.raw"] = "/disk-1.raw"
        web.files["/disk-1.raw"] = DATA
        web.files["/SUMS"] = f"{hashlib.sha512(DATA).hexdigest()}  latest.raw\n".encode()
        mine = tmp_path / "sources.toml"
        source = f'url = "{web.url("/latest.raw")}"\ndisk_format = "raw"\nchecksums_url = "{web.url("/SUMS")}"\n'
        mine.write_text(
            f'["fetched-1"]\ntitle = "A test"\n{source}[broken]\n{source}checksum = "{"0" * 64}"\n'
            f"[lying]\n{source.replace('raw', 'vmdk', 2).replace('latest.vmdk', 'latest.raw')}"
            f'[prefixed]\n{source}checksum = "sha256:{"0" * 64}"\n'
            f'[gone]\nurl = "{web.url("/gone")}"\nchecksum = "{"0" * 64}"\n'
        )
        listed = cloud.door("image", "sources", "--list", str(mine))
        assert "debian-13" in listed and "A test" in listed
        said = cloud.door("image", "fetch", "fetched-1", "--list", str(mine))
        image_id = said.split()[-1]
        assert "is registered" in said
        assert "there already" in cloud.door("image", "fetch", "fetched-1", "--list", str(mine))
        with pytest.raises(RuntimeError, match="does not have the checksum"):
            cloud.door("image", "fetch", "broken", "--list", str(mine))
        for name, why in (
            ("lying", r"is raw, not vmdk as its disk_format says\. Declare it as raw"),
            ("prefixed", "Give the hexadecimal digits of one of md5"),
            ("gone", r"could not be downloaded: the server answered 404\."),
        ):
            with pytest.raises(RuntimeError, match=why) as refused:
                cloud.door("image", "fetch", name, "--list", str(mine))
            assert "Error(" not in str(refused.value) and '"message"' not in str(refused.value)
        with pytest.raises(RuntimeError, match="Known:"):
            cloud.door("image", "fetch", "no-such", "--list", str(mine))
        assert not list(cloud.state.glob("fetch-*"))
        assert (cloud.state / "images" / image_id).read_bytes() == DATA
