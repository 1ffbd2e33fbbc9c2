"""A second image API beside a running cloud: a process with its own copies, over the same database and stores.

`python -m tests.conformance.second_image STATE CLOUD_URL PORT` serves until SIGTERM.
"""

from __future__ import annotations

import asyncio
import dataclasses
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from kilonova.cli import serve
from kilonova.cli.compose import services
from kilonova.cli.compose.embedded_ground import EmbeddedGround
from kilonova.cli.settings import read_settings
from kilonova.cli.state import State
from kilonova.http.app import Mounts
from kilonova.http.client import HttpTransport
from kilonova.image.cache.copies import Copies
from kilonova.image.worker import ImageWorker
from kilonova.node.images.store import FileStore
from tests.conformance.prepare import Admin
from tests.fake_cloud import ROOT, FakeCloud, free_port

TYPE = "image_remote"  # of its service in the catalog
HOST = "image2"


class Beside(EmbeddedGround):
    """The cloud's files and secrets; its other services over HTTP."""

    def __init__(self, directory: Path, url: str, config: str) -> None:
        state = State(directory)
        super().__init__(state, state.need(), read_settings(config))
        self.host = HOST
        self.cloud_url = url

    def transport(self, mount: str) -> HttpTransport:  # type: ignore[override]
        return HttpTransport(self.cloud_url + mount)


async def _serve(directory: Path, url: str, port: int, config: str) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    ground = Beside(directory, url, config)
    service = await services.image_service(ground)
    kept = FileStore(ground.world, directory / f"image-copies-{HOST}")
    size = ground.settings.image.cache_bytes
    copies = Copies(ground.world, ground.databases["image"], kept, HOST, size)
    service.parts = dataclasses.replace(service.parts, copies=copies)
    services.image_api(ground, service)
    worker = ImageWorker(service, ground.bus("image-worker"))
    await worker.start()
    listener = serve.Listener(Mounts(ground.mounts), ("127.0.0.1", port))
    await listener.start()
    await stop.wait()
    await listener.close()
    await worker.close()
    await ground.close()


@contextmanager
def second_image(cloud: FakeCloud, config: str) -> Iterator[None]:
    """It runs, and the catalog has it."""
    port = free_port()
    words = [sys.executable, "-m", "tests.conformance.second_image", str(cloud.state), cloud.url, str(port), config]
    with (cloud.state / "second-image.log").open("w") as log:
        process = subprocess.Popen(words, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
    try:
        url = f"http://127.0.0.1:{port}/image"
        _wait(url, process)
        admin = Admin(cloud)
        service = admin.ask("POST", "/identity/v3/services", {"service": {"type": TYPE, "name": "glance-2"}})["service"]
        endpoint = {"service_id": service["id"], "interface": "public", "url": url, "region_id": "RegionOne"}
        admin.ask("POST", "/identity/v3/endpoints", {"endpoint": endpoint})
        yield
    finally:
        process.terminate()
        process.wait(30)


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        if process.poll() is not None:
            break
        try:
            httpx.get(f"{url}/versions", trust_env=False).raise_for_status()
            return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise RuntimeError("the second image API does not answer")


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]))
