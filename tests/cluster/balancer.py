"""Debian's HAProxy on the controller: one address where users and services reach every API, each in several copies."""

from __future__ import annotations

import http.client
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kilonova.cli.state import write_private
from tests.cluster.landscape import Node
from tests.services import Service, binary, trusting_tests

PORT, METADATA_PORT = 8080, 8775
AWAY = '{"error": {"code": 503, "title": "Service Unavailable", "message": "The service does not answer now: none of \
its copies runs. Try again in a moment; operators find the reason in the logs of its processes."}}'


@dataclass(frozen=True)
class Copy:
    """One copy of an API on the balancer's machine."""

    name: str
    port: int


class Balancer(Service):
    """Paths to APIs (`/identity` → its copies); the metadata API has a port of its own. TLS ends here."""

    user = "haproxy"

    def __init__(self, node: Node, copies: Mapping[str, Sequence[Copy]]) -> None:
        self._node, self._copies = node, copies
        super().__init__(node.host_ip)
        self.port = PORT

    @property
    def url(self) -> str:
        return f"https://{self.address}:{PORT}"

    @property
    def metadata_url(self) -> str:
        return f"https://{self.address}:{METADATA_PORT}"

    def prepare(self) -> None:
        body = AWAY.encode()
        head = "HTTP/1.0 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 5\r\n"
        head += f"Cache-Control: no-cache\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        (self.directory / "503.http").write_bytes(head.encode() + body)
        pair = "".join((self.directory / name).read_text() for name in ("server.pem", "server.key"))
        write_private(self.directory / "pair.pem", pair.encode())
        (self.directory / "haproxy.cfg").write_text(settings(self.address, self._copies, self.directory))

    def wait(self, seconds: float) -> None:
        """Return when every API has a copy that is ready."""
        end, missing = time.monotonic() + seconds, [*self._copies]
        while missing:
            port, path = (METADATA_PORT, "/") if missing[0] == "metadata" else (PORT, f"/{missing[0]}/")
            connection = http.client.HTTPSConnection(self.address, port, timeout=10, context=trusting_tests())
            connection.request("GET", path)
            if connection.getresponse().status != 503:
                missing.pop(0)
            else:
                log = (self.directory / "log").read_text(errors="replace")[-3000:]
                assert time.monotonic() < end, f"no copy of {missing} is ready:\n{log}"
                time.sleep(0.2)

    def command(self) -> list[str]:
        return self._node.inside(binary("haproxy", "haproxy"), "-db", "-f", f"{self.directory}/haproxy.cfg")

    def as_user(self, command: list[str]) -> list[str]:
        return command  # entering a namespace needs root; HAProxy gives it up by itself


def settings(address: str, copies: Mapping[str, Sequence[Copy]], directory: Path) -> str:
    """haproxy.cfg: a copy that says that it is leaving gets nothing new."""
    mounts = [mount for mount in copies if mount != "metadata"]
    lines = [
        "global\n  maxconn 2000\n  user haproxy\n  group haproxy",
        "defaults\n  mode http\n  timeout connect 2s\n  timeout client 60s\n  timeout server 60s\n  timeout tunnel 1h",
        "  timeout check 3s\n  option http-server-close\n  option redispatch 1\n  retries 5\n  retry-on conn-failure",
        f"  errorfile 503 {directory}/503.http",
        f"frontend cloud\n  bind {address}:{PORT} ssl crt {directory}/pair.pem",
        *(f"  use_backend {mount} if {{ path_beg /{mount}/ }} || {{ path /{mount} }}" for mount in mounts),
        f"frontend metadata\n  bind {address}:{METADATA_PORT} ssl crt {directory}/pair.pem\n  default_backend metadata",
    ]
    for mount, servers in copies.items():
        lines += [f"backend {mount}\n  balance roundrobin\n  option httpchk GET /healthcheck"]
        lines += [f"  server {one.name} 127.0.0.1:{one.port} check inter 500ms fall 2 rise 1" for one in servers]
    return "\n".join(lines) + "\n"
