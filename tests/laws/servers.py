"""A simulated cloud with its API door, for the laws of server operations."""

from __future__ import annotations

from typing import Any

from kilonova.compute.server.store import Server
from kilonova.compute.service import POLICY, compute_app
from kilonova.compute.settings import ComputeSettings
from kilonova.policy.rules import Policy
from kilonova.saga.seams import Seams
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
        soft = 3600.0 if self.seams.plan.kind in ("softDelete", "restore") else 0.0
        settings = ComputeSettings(stop_grace_seconds=2.0, reclaim_instance_interval_seconds=soft)
        self.cloud = SimCloud(seed, seams, hosts=hosts, faulty=faulty, settings=settings)
        app = compute_app(self.cloud.api, FakeAuthenticator(), Policy(POLICY))
        self.client = ApiClient(app, "member", {"openstack-api-version": "compute 2.90"})

    def _crash(self) -> None:
        self.cloud.crash_conductors()

    async def create(self, name: str = "s", **more: Any) -> str:
        """The new server's id."""
        body = {"name": name, "flavorRef": "1", "imageRef": IMAGE, "networks": [{"uuid": NETWORK}]} | more
        answer = await self.client.post("/v2.1/servers", {"server": body}, 202)
        return str(answer["server"]["id"])

    async def act(self, server_id: str, action: str, status: int = 202, body: Any = None) -> Any:
        """POST /action."""
        return await self.client.post(f"/v2.1/servers/{server_id}/action", {action: body}, status)

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


HARD, SOFT = {"type": "HARD"}, {"type": "SOFT"}
LARGER, FRESH = {"flavorRef": "2"}, {"imageRef": IMAGE}
# What is done to an active server, one after the other: (action, its argument). A law's plan strikes operations of its
# kind, so what leads there is of other kinds.
STORIES: dict[str, tuple[tuple[str, Any], ...]] = {
    "stop": (("os-stop", None),),
    "start": (("os-stop", None), ("os-start", None)),
    "reboot": (("reboot", SOFT),),
    "reboot hard": (("reboot", HARD),),
    "reboot hard when stopped": (("os-stop", None), ("reboot", HARD)),
    "pause": (("pause", None),),
    "unpause": (("pause", None), ("unpause", None)),
    "suspend": (("suspend", None),),
    "resume": (("suspend", None), ("resume", None)),
    "changePassword": (("changePassword", {"adminPass": "another"}),),
    "softDelete": (("DELETE", None),),
    "restore": (("DELETE", None), ("restore", None)),
    "resize": (("resize", LARGER),),
    "confirmResize": (("resize", LARGER), ("confirmResize", None)),
    "revertResize": (("resize", LARGER), ("revertResize", None)),
    "rebuild": (("rebuild", FRESH),),
    "rescue": (("rescue", None),),
    "rescue when stopped": (("os-stop", None), ("rescue", {"rescue_image_ref": IMAGE})),
    "unrescue": (("rescue", None), ("unrescue", None)),
    "delete": (("DELETE", None),),
}
STATUS = {"confirmResize": 204, "rescue": 200}


async def do(door: Door, story: str) -> str:
    """A server with which `story` was lived through, once all is settled."""
    await door.cloud.start()
    server_id = await door.create()
    await door.cloud.settle()
    for action, argument in STORIES.get(story, ()):
        if action == "DELETE":
            await door.delete(server_id)
        else:
            await door.act(server_id, action, STATUS.get(action, 202), argument)
        await door.cloud.settle()
    return server_id


def kind_of(story: str) -> str:
    """The kind of operation that a story is about."""
    return story.partition(" ")[0]


def steps_of(story: str) -> list[tuple[str, int]]:
    """The steps of an undisturbed run."""
    door = Door(0, Plan(kind_of(story)), hosts=1)
    run(do(door, story), 0)
    door.balance()
    return door.seams.steps
