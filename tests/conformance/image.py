"""What the image suites need beside the cloud: images on a web server of our own, and stores, copies and locations."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

QCOW2 = b"QFI\xfb" + (3).to_bytes(4, "big") + bytes(16) + (1 << 20).to_bytes(8, "big") + bytes(480)
FILES = {"/image.raw": bytes(range(256)) * 4096, "/image.qcow2": QCOW2}
CONVERTS = shutil.which("qemu-img") is not None
BACKED = QCOW2[:8] + (512).to_bytes(8, "big") + (12).to_bytes(4, "big") + QCOW2[20:] + b"/etc/hostname"


def real_qcow2(directory: Path) -> bytes:
    """An empty disk as qemu-img makes it; without qemu-img a header that only we look at."""
    if not CONVERTS:
        return QCOW2
    path = directory / "empty.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "1M"], check=True)
    return path.read_bytes()


@contextmanager
def web_server() -> Iterator[int]:
    """The port of a server on loopback that has the files."""
    with tempfile.TemporaryDirectory() as folder:
        FILES["/image.qcow2"] = real_qcow2(Path(folder))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = FILES.get(self.path)
            if data is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """The run's log is the suites'."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()


def settings(path: Path, port: int, *, match: bool) -> Path:
    """The cloud's settings: two stores of files and one of the web, locations and copies, the local web allowed.

    Without `match` it is lax: formats need not match, and data at locations is not hashed.
    """
    path.write_text(
        f"""[image]
show_multiple_locations = true
show_image_direct_url = true
cache_bytes = 268435456
convert_to = "{"raw" if CONVERTS else ""}"
require_image_format_match = {str(match).lower()}
do_secure_hash = {str(match).lower()}

[image.web]
allowed_ports = [80, 443, {port}]
allowed_networks = ["127.0.0.1/32"]

[[image.stores]]
id = "archive"
weight = 30
default = true

[[image.stores]]
id = "backup"
weight = 20

[[image.stores]]
id = "web"
kind = "http"
weight = 10
"""
    )
    return path


def manifest(directory: Path) -> Path:
    """Images to accept and to refuse, as the suites' generator describes them."""
    directory.mkdir(parents=True, exist_ok=True)
    lines = ["images:"]
    images = (("raw", "raw", FILES["/image.raw"], True), ("qcow2", "qcow2", FILES["/image.qcow2"], True),
              ("qcow2-backing-file", "qcow2", BACKED, False))  # fmt: skip
    for name, format_, data, usable in images:
        (directory / name).write_bytes(data)
        lines += [f"- name: {name}", f"  filename: {name}", f"  format: {format_}", f"  usable: {str(usable).lower()}"]
    path = directory / "manifest.yml"
    path.write_text("\n".join(lines) + "\n")
    return path
