"""What users may make the image service fetch: nothing inside (OSSA-2026-004, OSSN-0105, OSSN-0078)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kilonova.base.faults import Fault, Kind
from kilonova.base.world import LiveWorld
from kilonova.image.contract import WebRules
from kilonova.node.images.web import WebReader
from tests.api.image.door import WholeImage, whole_image
from tests.api.image.web_server import WebServer, web_server

INSIDE = (
    "http://127.0.0.1/", "http://localhost/", "http://0.0.0.0/", "http://10.1.2.3/", "http://172.16.0.1/",
    "http://192.168.1.1/", "http://169.254.169.254/latest/meta-data", "http://100.64.0.1/", "http://[::1]/",
    "http://[::]/", "http://[fe80::1]/", "http://[fd00::1]/", "http://[::ffff:127.0.0.1]/", "http://[::ffff:a00:1]/",
    "http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/", "http://224.0.0.1/", "http://255.255.255.255/",
    "http://2130706433/", "http://0x7f000001/", "http://0177.0.0.1/", "http://127.1/", "https://127.0.0.1/",
)  # fmt: skip
STRANGE = (
    "ftp://example.com/x", "gopher://example.com/", "dict://example.com:11211/", "ldap://example.com/",
    "http://example.com:22/", "http://example.com:6379/", "http://example.com:5672/", "http://", "http:///x",
    "http://user:password@example.com/", "http://example.com\\@127.0.0.1/", "http://example.com:99999/",
    "http://exa mple.com/", "http://example.com/\r\nHost: x", "javascript:alert(1)", "",
)  # fmt: skip


def public(host: str, port: int) -> list[str]:
    """A resolver for which every name is on the public network; addresses are themselves."""
    import socket

    try:
        return [str(found[4][0]) for found in socket.getaddrinfo(host, port, flags=socket.AI_NUMERICHOST)]
    except socket.gaierror:
        return ["127.0.0.1"] if host == "localhost" else ["93.184.216.34"]


@pytest.fixture
async def world() -> Any:
    made = LiveWorld("web")
    yield made
    await made.close()


@pytest.mark.parametrize("url", [*INSIDE, *STRANGE])
async def test_the_url_itself(world: LiveWorld, url: str) -> None:
    reader = WebReader(world, WebRules(), public)
    with pytest.raises(Fault) as refused:
        await reader.check(url)
    assert refused.value.kind is Kind.INVALID and "does not pass filtering" in refused.value.message
    with pytest.raises(Fault):
        async for _ in reader.read(url):
            raise AssertionError("a byte came")


async def test_public_urls_are_taken(world: LiveWorld) -> None:
    reader = WebReader(world, WebRules(blocked_hosts=("evil.example",)), public)
    for url in ("http://example.com/x", "https://example.com/x?y=z", "http://[2606:4700::1111]/", "http://1.1.1.1:80/"):
        await reader.check(url)
    with pytest.raises(Fault):
        await reader.check("http://EVIL.example./x")


@pytest.mark.parametrize(
    "target",
    ["http://127.0.0.2:{port}/secret", "http://169.254.169.254/latest", "http://127.0.0.1:22/", "file:///etc/shadow",
     "gopher://127.0.0.1:{port}/secret", "//127.0.0.2:{port}/secret", "http://[::1]:{port}/secret"],
)  # fmt: skip
async def test_every_hop_of_a_redirect(world: LiveWorld, target: str) -> None:
    with web_server() as web:
        web.files["/secret"] = b"secret"
        web.redirects["/start"] = web.url("/middle")
        web.redirects["/middle"] = target.format(port=web.port)
        rules = WebRules(allowed_ports=(web.port,), allowed_networks=("127.0.0.1/32",))
        with pytest.raises(Fault, match="does not pass filtering"):
            async for _ in WebReader(world, rules).read(web.url("/start")):
                raise AssertionError("a byte came")
        assert web.asked == ["/start", "/middle"]


async def test_redirects_end(world: LiveWorld) -> None:
    with web_server() as web:
        web.redirects["/loop"] = "/loop"
        rules = WebRules(allowed_ports=(web.port,), allowed_networks=("127.0.0.1/32",), redirects=3)
        with pytest.raises(Fault, match="redirects too often"):
            async for _ in WebReader(world, rules).read(web.url("/loop")):
                pass
        assert len(web.asked) == 4


class Rebinding:
    """A name server that tells one address to who checks and another to who connects."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)

    def __call__(self, host: str, port: int) -> list[str]:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


async def _fetch(reader: WebReader, url: str) -> bytes:
    return b"".join([chunk async for chunk in reader.read(url)])


async def test_a_name_that_changes_its_address_gains_nothing(world: LiveWorld) -> None:
    with web_server() as web:
        web.files["/x"] = b"harmless"
        rules = WebRules(allowed_ports=(web.port,), allowed_networks=("127.0.0.1/32",))
        url = f"http://rebind.example:{web.port}/x"
        changing = Rebinding(["127.0.0.1"], ["127.0.0.2"])
        assert await _fetch(WebReader(world, rules, changing), url) == b"harmless"  # judged once, that one is used
        assert web.hosts == [f"rebind.example:{web.port}"]
        with pytest.raises(Fault, match="not on the public network"):
            await _fetch(WebReader(world, rules, changing), url)
        both = Rebinding(["127.0.0.1", "127.0.0.2"])  # one good address does not excuse another
        with pytest.raises(Fault, match="not on the public network"):
            await _fetch(WebReader(world, rules, both), url)


@pytest.mark.parametrize("uri", ["file:///etc/shadow", "filesystem:///x"])
async def test_locations_of_the_host_are_forbidden_at_every_door(tmp_path: Path, uri: str) -> None:
    kind = "application/openstack-images-v2.1-json-patch"
    async with whole_image(tmp_path, show_multiple_locations=True) as image:
        image_id = await image.create()
        for who in ("member", "admin"):
            api = image.api.as_(who)
            change = {"op": "add", "path": "/locations/-", "value": {"url": uri, "metadata": {}}}
            assert (await api.send("PATCH", f"/v2/images/{image_id}", [change], content_type=kind)).status == 403
            await api.post(f"/v2/images/{image_id}/locations", {"url": uri}, 403)
            body = {"method": {"name": "web-download", "uri": uri}}
            await api.post(f"/v2/images/{image_id}/import", body, 403)
        properties = {"disk_format": "raw", "container_format": "bare"}
        wanted = {"import_from": uri, "import_from_format": "raw", "image_properties": properties}
        await image.api.as_("admin").post("/v2/tasks", {"type": "import", "input": wanted}, 403)
        await image.api.post("/v2/images", {"name": "x", "locations": [{"url": uri, "metadata": {}}]}, 403)
        refused = await image.api.send("POST", "/v2/images", {"name": "x"}, x_glance_api_copy_from=uri)
        assert refused.status == 201  # the old header means nothing
        assert (await image.show(image_id))["status"] == "queued"


async def test_a_redirect_inside_fails_the_import_and_says_nothing_of_the_inside(tmp_path: Path) -> None:
    async with whole_image(tmp_path) as image:
        secret: WebServer = image.web
        secret.redirects["/go"] = "http://169.254.169.254/latest/meta-data"
        image_id = await _import(image, secret.url("/go"))
        task = await image.ended(image_id)
        assert task["status"] == "failure" and "does not pass filtering" in task["message"]
        assert "169.254" not in task["message"]
        assert image.kept() == {"first": [], "second": []}


async def _import(image: WholeImage, uri: str) -> str:
    image_id = await image.create()
    await image.import_(image_id, "web-download", uri=uri)
    return image_id
