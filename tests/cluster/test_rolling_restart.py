"""An upgrade as operators do it: every process of a cluster is restarted, one after the other, and nobody notices."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import httpx
import pytest

from tests.cluster.machines import Machines, Shape, machines
from tests.cluster.member import wait, wait_for_hosts
from tests.cluster.watch import Asker, Client

pytestmark = [pytest.mark.root, pytest.mark.cluster, pytest.mark.full]


@pytest.fixture(scope="module")
def cloud() -> Iterator[Machines]:
    with machines(Shape(hosts=2)) as made:
        made.furnish(bytes(1 << 20), "raw")
        wait_for_hosts(made)
        yield made


class Builder(threading.Thread):
    """Makes servers one after the other, and deletes each; `wrong` is what did not go as it should."""

    def __init__(self, client: Client, body: dict[str, Any]) -> None:
        super().__init__(name="builder", daemon=True)
        self._client, self._body, self._leave = client, body, threading.Event()
        self.built = 0
        self.wrong: list[str] = []

    def run(self) -> None:
        while not self._leave.is_set():
            try:
                self._one()
            except httpx.HTTPError as error:
                self.wrong.append(repr(error))

    def _one(self) -> None:
        answer = self._client.ask("POST", "/compute/v2.1/servers", {"server": {**self._body, "name": "built"}})
        if answer.status_code != 202:
            self.wrong.append(f"create: {answer.status_code} {answer.text[:200]}")
            return
        path = f"/compute/v2.1/servers/{answer.json()['server']['id']}"
        ended = self._until(path, lambda one: one is not None and one["status"] != "BUILD")
        if ended is None or ended["status"] != "ACTIVE":
            self.wrong.append(f"built: {ended and (ended['status'], ended.get('fault'))}")
        answer = self._client.ask("DELETE", path)
        if answer.status_code != 204:
            self.wrong.append(f"delete: {answer.status_code} {answer.text[:200]}")
        self._until(path, lambda one: one is None)
        self.built += 1

    def _until(self, path: str, done: Any) -> dict[str, Any] | None:
        """The server once it is done; None when it is gone. What takes two minutes is stuck."""
        end = time.monotonic() + 120
        while time.monotonic() < end:
            answer = self._client.ask("GET", path)
            if answer.status_code not in (200, 404):
                self.wrong.append(f"show: {answer.status_code} {answer.text[:200]}")
            found = answer.json()["server"] if answer.status_code == 200 else None
            if done(found):
                return found
            time.sleep(0.2)
        self.wrong.append(f"stuck: {found and (found['status'], found['OS-EXT-STS:task_state'])}")
        return found

    def __enter__(self) -> Self:
        self._client.log_in()
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave.set()
        self.join(150)


def test_every_process_is_restarted_under_load_without_a_failed_call(cloud: Machines) -> None:
    member = cloud.sdk("demo")
    network = member.network.create_network(name="private")
    member.network.create_subnet(network_id=network.id, cidr="10.9.0.0/24", ip_version=4)
    image, flavor = member.image.find_image("cirros"), member.compute.find_flavor("tiny")
    body = {"imageRef": image.id, "flavorRef": flavor.id, "networks": [{"uuid": network.id}]}
    with Asker(Client(cloud)) as asker, Builder(Client(cloud), body) as builder:
        wait("the first is built", 60, lambda: builder.built or builder.wrong)
        for key in list(cloud.running):
            cloud.restart(key)
    print(f"{len(cloud.running)} restarts; {asker.asked} questions asked, {builder.built} servers built and deleted")
    assert asker.wrong == []
    assert builder.wrong == []
    assert builder.built > 10
    assert "all is well" in cloud.run(cloud.land.controller, "doctor")
