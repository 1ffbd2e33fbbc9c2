"""Who looks on while a cluster is broken: a ping that never stops, a client that never stops asking."""

from __future__ import annotations

import itertools
import re
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from tests.cluster.machines import Machines
from tests.services import trusting_tests


class Ping:
    """From the street to a floating IP, twice a second; at the end of `with`, `lost` are the numbers never answered."""

    def __init__(self, cloud: Machines, address: str) -> None:
        self._file = Path(cloud.directory) / f"ping-{time.monotonic_ns()}"
        self._line = cloud.land.street.inside("ping", "-i", "0.5", address)
        self.lost: list[int] = []
        self.sent = 0

    def __enter__(self) -> Self:
        with self._file.open("wb") as said:
            self._process = subprocess.Popen(self._line, stdout=said, stderr=said)
        return self

    def __exit__(self, *_: object) -> None:
        time.sleep(3)  # a guest of an emulated processor on a busy machine answers late
        self._process.terminate()
        self._process.wait()
        answered = {int(number) for number in re.findall(r"icmp_seq=(\d+) ttl=", self._file.read_text())}
        self.sent = max(answered, default=0)
        self.lost = [number for number in range(1, self.sent + 1) if number not in answered]


class Client:
    """A member's HTTP client: a token of its own, one try for each request."""

    def __init__(self, cloud: Machines) -> None:
        self._login = cloud.login("demo")
        self.url = cloud.balancer.url
        self._client = httpx.Client(timeout=30, verify=trusting_tests(), trust_env=False)
        self._token = ""

    def log_in(self) -> None:
        """A new token."""
        login = self._login
        domain = {"name": login["user_domain_name"]}
        user = {"name": login["username"], "password": login["password"], "domain": domain}
        scope = {"project": {"name": login["project_name"], "domain": domain}}
        body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}}
        answer = self._client.post(f"{self.url}/identity/v3/auth/tokens", json=body)
        answer.raise_for_status()
        self._token = answer.headers["x-subject-token"]

    def ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """The service's answer, whatever it is; httpx.HTTPError when there is none."""
        headers = {"x-auth-token": self._token, "openstack-api-version": "compute 2.90"}
        return self._client.request(method, f"{self.url}{path}", json=body, headers=headers)

    def servers(self) -> dict[str, dict[str, Any]]:
        """Every server of the project, by id."""
        answer = self.ask("GET", "/compute/v2.1/servers/detail?limit=1000")
        answer.raise_for_status()
        return {one["id"]: one for one in answer.json()["servers"]}

    def close(self) -> None:
        self._client.close()


class Asker(threading.Thread):
    """Asks each API in turn, three times a second; `wrong` is (when, what) of each that did not succeed."""

    PATHS = (
        "/compute/v2.1/servers",
        "/network/v2.0/ports",
        "/volume/v3/volumes",
        "/image/v2/images",
        "/compute/v2.1/flavors",
    )

    def __init__(self, client: Client) -> None:
        super().__init__(name="asker", daemon=True)
        self._client, self._leave = client, threading.Event()
        self.asked = 0
        self.wrong: list[tuple[float, str]] = []

    def run(self) -> None:
        for path in itertools.cycle(self.PATHS):
            if self._leave.wait(0.3):
                return
            self.asked += 1
            try:
                answer = self._client.ask("GET", path)
                if answer.status_code != 200:
                    self.wrong.append((time.monotonic(), f"{path}: {answer.status_code} {answer.text[:200]}"))
            except httpx.HTTPError as error:
                self.wrong.append((time.monotonic(), f"{path}: {error!r}"))

    def __enter__(self) -> Self:
        self._client.log_in()
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave.set()
        self.join(40)

    def since(self, moment: float) -> list[str]:
        """What was wrong after a moment."""
        return [what for when, what in self.wrong if when > moment]
