"""The guide's HAProxy and keepalived files, on two machines: the public address fails over from one to the other."""

from __future__ import annotations

import http.server
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.cluster.landscape import Landscape, Node
from tests.cluster.machines import ROOT
from tests.services import binary

pytestmark = [pytest.mark.root, pytest.mark.cluster]
PAGE = ROOT / "docs/guide/high-availability.md"
AWAY_SECONDS = 8.0  # on a busy machine; the guide's figures are those of an idle one


def example(kind: str) -> str:
    """The guide's file of that kind."""
    found = re.search(rf"```{kind}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


class Api(http.server.BaseHTTPRequestHandler):
    """What stands behind the balancers: every path is there."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Not on the terminal."""


class Balancer:
    """A machine with HAProxy and keepalived on the guide's files, but for addresses and names."""

    def __init__(self, node: Node, number: int, address: str, backend: str) -> None:
        self._node, self._address = node, address
        self._place = Path(tempfile.mkdtemp(prefix="kilonova-balancer-"))
        self._place.chmod(0o755)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        proxy = re.sub(r"(server ctl\d) [\d.]+:\d+", rf"\1 {backend}", example("haproxy"))
        guard = example("keepalived").replace("10.0.0.10", address).replace("router_id lb1", f"router_id lb{number}")
        guard = guard.replace("interface eth0", "interface mgmt0").replace(
            "priority 100", f"priority {110 - 10 * number}"
        )
        (self._place / "haproxy.cfg").write_text(proxy)
        (self._place / "keepalived.conf").write_text(guard)

    def start(self) -> None:
        place = self._place
        self.start_proxy()
        words = ["--dont-fork", "--log-console", "--vrrp", "-f", f"{place}/keepalived.conf"]
        self._spawn("keepalived", "keepalived", *words, "-p", f"{place}/keepalived.pid", "-r", f"{place}/vrrp.pid")

    def start_proxy(self) -> None:
        self._spawn("haproxy", "haproxy", "-db", "-f", f"{self._place}/haproxy.cfg")

    def _spawn(self, name: str, program: str, *words: str) -> None:
        line = self._node.inside("setpriv", "--pdeathsig", "TERM", binary(program, program), *words)
        with (self._place / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(line, stdout=log, stderr=log)

    def kill(self, *names: str) -> None:
        """kill -9, with the children."""
        for name in names:
            process = self._processes.pop(name)
            children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=False)
            process.kill()
            for child in children.stdout.split():
                subprocess.run(["kill", "-9", child], check=False, capture_output=True)
            process.wait()

    def unplug(self) -> None:
        """The machine dies: nobody hears of it any more."""
        subprocess.run(self._node.inside("ip", "link", "set", "mgmt0", "down"), check=True)

    def holds_address(self) -> bool:
        shown = subprocess.run(self._node.inside("ip", "-o", "address"), capture_output=True, text=True, check=True)
        return f" {self._address}/" in shown.stdout

    def log(self) -> str:
        return "".join(one.read_text()[-2000:] for one in self._place.glob("*.log"))

    def close(self) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.wait(20)
        shutil.rmtree(self._place)


@pytest.fixture
def pair() -> Iterator[tuple[str, Balancer, Balancer]]:
    """The public URL, and the two machines that share it; the API behind them is in this process."""
    land = Landscape(2)
    made: list[Balancer] = []
    try:
        land.build()
        server = http.server.ThreadingHTTPServer((land.root_ip, 0), Api)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = land.root_ip.rpartition(".")[0] + ".100"
        backend = f"{land.root_ip}:{server.server_port}"
        made = [Balancer(node, number, address, backend) for number, node in enumerate(land.computes, 1)]
        for one in made:
            one.start()
        yield f"http://{address}:8080", made[0], made[1]
        server.shutdown()
    finally:
        for one in made:
            one.close()
        land.remove()
        assert land.left_behind() == []


def held_by(holder: Balancer, other: Balancer) -> None:
    """Wait until it is there and nowhere else; the first has it whenever it is well."""
    end = time.monotonic() + AWAY_SECONDS
    while (holder.holds_address(), other.holds_address()) != (True, False):
        assert time.monotonic() < end, f"the address is not where it should be: {holder.log()}{other.log()}"
        time.sleep(0.1)


def answers_again(url: str, what: str) -> float:
    """Seconds until ten requests in a row are answered."""
    began = time.monotonic()
    right = 0
    with httpx.Client(timeout=0.5) as client:
        while right < 10:
            assert time.monotonic() - began < AWAY_SECONDS, what
            try:
                right = right + 1 if client.get(f"{url}/identity/v3").status_code == 200 else 0
            except httpx.HTTPError:
                right = 0
            time.sleep(0.02)
    return time.monotonic() - began


def test_the_public_address_moves_when_haproxy_dies_and_when_its_machine_dies(
    pair: tuple[str, Balancer, Balancer],
) -> None:
    url, first, second = pair
    held_by(first, second)
    answers_again(url, f"nobody answers: {first.log()}{second.log()}")
    first.kill("haproxy")
    took = answers_again(url, f"the address did not move: {second.log()}")
    held_by(second, first)
    first.start_proxy()
    held_by(first, second)
    back = answers_again(url, f"nobody answers any more: {first.log()}")
    first.unplug()
    dead = answers_again(url, f"the address did not leave the dead machine: {second.log()}")
    assert second.holds_address()
    print(f"away for {took:.1f} s without HAProxy, {back:.1f} s on its return, {dead:.1f} s without the machine")
