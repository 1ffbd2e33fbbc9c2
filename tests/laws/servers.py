"""A simulated cloud with its API door, for the laws of server operations."""

from __future__ import annotations

from typing import Any

from kilonova.compute.server.store import Server
from kilonova.compute.service import POLICY, compute_app
from kilonova.policy.rules import Policy
from kilonova.saga.runner import Seams
from kilonova.sim import books
from kilonova.sim.cloud import SimCloud
from kilonova.sim.laws import LawSeams, Plan
from kilonova.sim.loop import run
from kilonova.sim.peers import IMAGE, NETWORK
from tests.api.support import ApiClient, FakeAuthenticator


class Door:
    """A cloud and its API. `want` makes a server, as a user would."""

    def __init__(self, seed: int, plan: Plan | None = None, *, hosts: int = 2, faulty: bool = False) -> None:
        self.seams = LawSeams(plan or Plan(""), self._crash)
        seams: Seams = self.seams
        self.cloud = SimCloud(seed, seams, hosts=hosts, faulty=faulty)
        app = compute_app(self.cloud.api, FakeAuthenticator(), Policy(POLICY))
        self.client = ApiClient(app, "member", {"openstack-api-version": "compute 2.90"})

    def _crash(self) -> None:
        self.cloud.crash_conductors()

    async def create(self, name: str = "s", **more: Any) -> str:
        """The new server's id."""
        body = {"name": name, "flavorRef": "1", "imageRef": IMAGE, "networks": [{"uuid": NETWORK}]} | more
        answer = await self.client.post("/v2.1/servers", {"server": body}, 202)
        return str(answer["server"]["id"])

    async def act(self, server_id: str, action: str, status: int = 202) -> Any:
        """POST /action."""
        return await self.client.post(f"/v2.1/servers/{server_id}/action", {action: None}, status)

    async def delete(self, server_id: str, status: int = 204) -> None:
        await self.client.delete(f"/v2.1/servers/{server_id}", status)

    def state(self, server_id: str) -> str:
        """vm_state of the record."""
        return self.state_of(server_id).vm_state

    def state_of(self, server_id: str) -> Server:
        """The whole record."""
        return next(server for server in self.cloud.servers() if server.id == server_id)

    def balance(self) -> None:
        books.balance(self.cloud)


async def do(door: Door, verb: str) -> str:
    """A server to which `verb` was done, once all is settled."""
    await door.cloud.start()
    server_id = await door.create()
    await door.cloud.settle()
    if verb in ("stop", "start") and door.state(server_id) == "active":
        await door.act(server_id, "os-stop")
        await door.cloud.settle()
    if verb == "start" and door.state(server_id) == "stopped":
        await door.act(server_id, "os-start")
        await door.cloud.settle()
    if verb == "delete":
        await door.delete(server_id)
        await door.cloud.settle()
    return server_id


def steps_of(verb: str) -> list[tuple[str, int]]:
    """The steps of an undisturbed run."""
    door = Door(0, Plan(verb), hosts=1)
    run(do(door, verb), 0)
    door.balance()
    return door.seams.steps
