"""One contract, every key manager: a directory of the operator's, and Barbican's REST API over a socket."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kilonova.base.faults import Fault, Kind
from kilonova.base.world import LiveWorld
from kilonova.http.client import Client, HttpTransport
from kilonova.image.certificates import BarbicanCertificates, DirectoryCertificates
from kilonova.image.contract import Certificates
from tests.unit.image.signing import CERTIFICATE_ID, Authority

UNKNOWN = CERTIFICATE_ID[:-1] + "9"
CERTIFICATE = Authority("one").der


class KeyManager(BaseHTTPRequestHandler):
    """Identity's catalog and Barbican's secrets, as their API references say. One secret, which `reader` may read."""

    catalog = True
    payload = CERTIFICATE

    def do_GET(self) -> None:
        if self.path == "/identity/v3/auth/catalog":
            url = f"http://{self.headers['host']}/key-manager"
            endpoints = [{"interface": "public", "url": url, "region_id": "R"}]
            services = [{"type": "identity", "endpoints": []}]
            services += [{"type": "key-manager", "endpoints": endpoints}] if self.catalog else []
            self._answer(200, msgspec.json.encode({"catalog": services}))
        elif not self.path.startswith(f"/key-manager/v1/secrets/{CERTIFICATE_ID}"):
            self._answer(404, b'{"code": 404, "title": "Not Found", "description": "Secret not found."}')
        elif self.headers["x-auth-token"] != "reader":
            self._answer(403, b'{"code": 403, "title": "Forbidden"}')
        elif not self.path.endswith("/payload"):
            about = {"status": "ACTIVE", "secret_type": "certificate", "name": "image",
                     "content_types": {"default": "application/octet-stream"}}  # fmt: skip
            self._answer(200, msgspec.json.encode(about))
        elif self.headers["accept"] != "application/octet-stream":
            self._answer(406, b'{"code": 406, "title": "Not Acceptable"}')
        else:
            self._answer(200, self.payload, "application/octet-stream")

    def _answer(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Tests print nothing."""


@contextmanager
def barbican(handler: type[KeyManager] = KeyManager) -> Iterator[BarbicanCertificates]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield BarbicanCertificates(Client(HttpTransport(f"http://127.0.0.1:{server.server_address[1]}/identity")))
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(params=["directory", "barbican"])
async def certificates(request: Any, tmp_path: Path) -> AsyncIterator[Certificates]:
    if request.param == "directory":
        (tmp_path / f"{CERTIFICATE_ID}.pem").write_bytes(CERTIFICATE)
        (tmp_path / "secret").write_bytes(b"not for everybody")
        world = LiveWorld("certificates")
        yield DirectoryCertificates(world, tmp_path)
        await world.close()
    else:
        with barbican() as made:
            yield made


async def test_a_certificate_by_its_id(certificates: Certificates) -> None:
    assert await certificates.get("reader", CERTIFICATE_ID) == CERTIFICATE


@pytest.mark.parametrize(
    "name", [UNKNOWN, "", "secret", "../secret", f"{CERTIFICATE_ID}/../x", f"{CERTIFICATE_ID}?x=y", "/etc/passwd"]
)
async def test_any_other_is_not_found(certificates: Certificates, name: str) -> None:
    with pytest.raises(Fault) as fault:
        await certificates.get("reader", name)
    assert fault.value.kind is Kind.NOT_FOUND


async def test_barbican_decides_who_reads() -> None:
    with barbican() as made:
        with pytest.raises(Fault) as fault:
            await made.get("somebody", CERTIFICATE_ID)
        assert fault.value.kind is Kind.FORBIDDEN


async def test_without_a_key_manager_in_the_catalog() -> None:
    class Without(KeyManager):
        catalog = False

    with barbican(Without) as made:
        with pytest.raises(Fault, match="no key manager") as fault:
            await made.get("reader", CERTIFICATE_ID)
        assert fault.value.kind is Kind.UNAVAILABLE


async def test_what_is_too_long_for_a_certificate() -> None:
    class Long(KeyManager):
        payload = bytes(1 << 20)

    with barbican(Long) as made:
        with pytest.raises(Fault) as fault:
            await made.get("reader", CERTIFICATE_ID)
        assert fault.value.kind is Kind.NOT_FOUND
