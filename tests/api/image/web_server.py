"""A web server for tests: what it answers is set path by path, and it notes what it was asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class WebServer:
    """`files` by path; `redirects` by path; `asked` in order."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.asked: list[str] = []
        self.hosts: list[str] = []
        self.port = 0

    def url(self, path: str, data: bytes | None = None) -> str:
        """The URL of a path, at which `data` is from now on."""
        if data is not None:
            self.files[path] = data
        return f"http://127.0.0.1:{self.port}{path}"


@contextmanager
def web_server() -> Iterator[WebServer]:
    """On a free port of loopback, until the end."""
    made = WebServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked.append(self.path)
            made.hosts.append(self.headers.get("host", ""))
            if self.path in made.redirects:
                self.send_response(302)
                self.send_header("location", made.redirects[self.path])
                self.send_header("content-length", "0")
                self.end_headers()
                return
            data = made.files.get(self.path)
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
            """Tests print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
