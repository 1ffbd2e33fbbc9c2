"""Servers made from stored flavors, keys and quotas: nobody passes a limit, whoever races."""

from __future__ import annotations

import asyncio
from typing import Any

from kilonova.compute.catalogue import StoredCatalogue
from kilonova.compute.flavor import store as flavors
from kilonova.compute.flavor.store import Flavor
from kilonova.compute.quota import store as quota
from kilonova.sim.peers import IMAGE, NETWORK
from tests.api.compute.test_servers import in_cloud
from tests.api.support import PROJECT
from tests.laws.servers import Door


async def prepare(door: Door, user_id: str = "", **limits: int) -> None:
    """Two flavors, one of them private, and these limits for the caller's project or for one user in it."""
    compute = door.cloud.api
    compute.catalogue = StoredCatalogue()
    now = compute.world.clock.now()
    for name, public in (("small", True), ("secret", False)):
        flavor = Flavor(name, name, 2, 512, 1, 0, 0, 1.0, public, None, {"hw:a": "1"}, now)
        await compute.db.write(flavors.insert, flavor)
    await compute.db.write(quota.change, "user" if user_id else "project", PROJECT, user_id, limits)


async def ask(door: Door, token: str = "member", **more: Any) -> int:
    body = {"name": "one", "flavorRef": "small", "imageRef": IMAGE, "networks": [{"uuid": NETWORK}]} | more
    return (await door.client.as_(token).send("POST", "/v2.1/servers", {"server": body})).status


def test_of_many_that_race_exactly_as_many_as_fit_get_a_server() -> None:
    async def main(door: Door) -> None:
        await prepare(door, instances=10, cores=6)
        answers = await asyncio.gather(*(ask(door) for _ in range(8)))
        assert sorted(answers) == [202] * 3 + [403] * 5
        await door.cloud.settle()
        used = (await door.client.get("/v2.1/limits"))["limits"]["absolute"]
        assert (used["totalInstancesUsed"], used["totalCoresUsed"], used["totalRAMUsed"]) == (3, 6, 1536)
        detail = (await door.client.get(f"/v2.1/os-quota-sets/{PROJECT}/detail"))["quota_set"]
        assert detail["cores"] == {"limit": 6, "in_use": 6, "reserved": 0}
        below = {"quota_set": {"cores": 5}}
        await door.client.as_("admin").put(f"/v2.1/os-quota-sets/{PROJECT}", below, 400)
        await door.client.as_("admin").put(f"/v2.1/os-quota-sets/{PROJECT}", {"quota_set": {"cores": 5, "force": 1}})

    in_cloud(main)


def test_a_users_own_limit_stops_that_user_only() -> None:
    async def main(door: Door) -> None:
        await prepare(door, "user-member", instances=1)
        assert [await ask(door), await ask(door), await ask(door, "manager")] == [202, 403, 202]
        await door.cloud.settle()

    in_cloud(main)


def test_a_server_needs_a_flavor_and_a_key_that_its_user_may_use() -> None:
    async def main(door: Door) -> None:
        await prepare(door, instances=5)
        assert await ask(door, flavorRef="secret") == 400
        assert await ask(door, flavorRef="nothing") == 400
        assert await ask(door, key_name="nothing") == 400
        await door.cloud.api.db.write(flavors.give, "secret", PROJECT)
        assert await ask(door, flavorRef="secret") == 202
        await door.cloud.settle()
        shown = (await door.client.get("/v2.1/servers/detail"))["servers"][0]
        assert shown["flavor"]["original_name"] == "secret" and shown["flavor"]["extra_specs"] == {"hw:a": "1"}

    in_cloud(main)
