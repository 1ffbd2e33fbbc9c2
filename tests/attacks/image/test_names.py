"""Names that would be paths, options or shell words (A12, A31): ids are UUIDs, everything else reaches no command."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from kilonova.compute.metadata_tree import config_drive_files
from tests.api.image.door import whole_image
from tests.contract.test_local_disks import server

NASTY = ("../../etc/passwd", "-f", "--help", "a;touch /tmp/x", "$(id)", "`id`", "a\nb", "/dev/zero", "..", "%2e%2e%2f")


@pytest.mark.parametrize("name", NASTY)
async def test_no_id_is_a_path(tmp_path: Path, name: str) -> None:
    async with whole_image(tmp_path) as image:
        await image.api.post("/v2/images", {"id": name, "name": "x"}, 400)
        image_id = await image.create(name=name, os_distro=name)  # a name may be anything: it names nothing here
        kind = "application/octet-stream"
        for header in ({"x_image_meta_store": name.replace("\n", "")},):
            reply = await image.api.send("PUT", f"/v2/images/{image_id}/file", b"x", content_type=kind, **header)
            assert reply.status == 400
        await image.import_(image_id, "copy-image", 409, stores=["second"])
        await image.import_(image_id, "web-download", 400, uri=image.web.url("/x", b"x"), stores=[name])
        await image.import_(image_id, "glance-download", 400, glance_image_id=name, glance_region="R")
        await image.put(image_id, b"data")
        assert image.kept() == {"first": [image_id], "second": []}
        assert (await image.show(image_id))["name"] == name


def test_files_of_a_server_stay_on_its_config_drive() -> None:
    content = base64.b64encode(b"evil").decode()
    paths = ("../../../etc/cron.d/x", "/etc/shadow", "-rf", "a;b", "$(id)")
    one = server(config_drive=True, personality=[(path, content) for path in paths])
    files = config_drive_files(one, admin_password="", random_seed=b"")
    assert all(".." not in name and not name.startswith(("/", "-")) and ";" not in name for name in files)
    assert sum(data == b"evil" for data in files.values()) == len(paths)
