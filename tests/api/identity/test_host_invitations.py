"""A host joins with an invitation: once, within the hour, for what it says (A110: nothing is known beforehand)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from kilonova.base.faults import unavailable
from kilonova.identity.host.join import LIVES_SECONDS, invite, prune_invitations
from kilonova.identity.host.join import expel as expel_host
from kilonova.identity.schema import host_invitations
from tests.api.identity.support import Cloud, project

HOSTS = "/v3/kilonova/hosts"


class Admission:
    """Gives the password back, and can be out of order."""

    def __init__(self) -> None:
        self.broken = False
        self.admitted: list[tuple[str, tuple[str, ...]]] = []

    def authority(self) -> str:
        return "a certificate"

    async def admit(self, host: str, roles: Sequence[str], password: str, certificate_request: str) -> dict[str, Any]:
        if self.broken:
            raise unavailable("RabbitMQ's management API does not answer.")
        self.admitted.append((host, tuple(roles)))
        return {"password": password}


async def redeem(cloud: Cloud, secret: str, status: int = 201) -> Any:
    reply = await cloud.send("POST", HOSTS, {"host": {"invitation": secret}})
    assert reply.status == status, reply.content
    return reply.json()["host"] if status == 201 else reply.json()["error"]["message"]


def admission(cloud: Cloud) -> Admission:
    made = Admission()
    cloud.service.admission = made
    return made


async def test_an_invitation_lets_a_host_in_once(cloud: Cloud) -> None:
    lets_in = admission(cloud)
    secret = await invite(cloud.service, "node1", ["compute"])
    got = await redeem(cloud, secret)
    assert (got["name"], got["roles"]) == ("node1", ["compute"])
    assert lets_in.admitted == [("node1", ("compute",))]
    token = await cloud.login("agent-node1", got["password"], project("service"))
    seen = await cloud.send("GET", "/v3/auth/tokens", token=token, **{"x-subject-token": token})
    assert [role["name"] for role in seen.json()["token"]["roles"]] == ["service"]
    assert "lets one host join once" in await redeem(cloud, secret, 403)
    assert "not known here" in await redeem(cloud, secret[:-1], 403)
    assert len(lets_in.admitted) == 1


async def test_of_two_who_show_it_at_once_one_joins(cloud: Cloud) -> None:
    lets_in = admission(cloud)
    secret = await invite(cloud.service, "node1", ["compute"])
    body = {"host": {"invitation": secret}}
    replies = await asyncio.gather(*(cloud.send("POST", HOSTS, body) for _ in range(5)))
    assert sorted(reply.status for reply in replies).count(201) == 1
    assert {reply.status for reply in replies} <= {201, 403, 409}
    assert len(lets_in.admitted) == 1


async def test_after_an_hour_it_is_worth_nothing_and_later_forgotten(cloud: Cloud) -> None:
    admission(cloud)
    secret = await invite(cloud.service, "node1", ["compute"])

    def age(connection: sa.Connection, seconds: float) -> None:
        past = cloud.service.world.clock.now() - timedelta(seconds=seconds)
        connection.execute(host_invitations.update().values(expires_at=past))

    await cloud.service.db.write(age, 1.0)
    assert "expired at" in await redeem(cloud, secret, 403)
    assert await prune_invitations(cloud.service) == 0
    await cloud.service.db.write(age, 8 * 86_400.0)
    assert await prune_invitations(cloud.service) == 1
    assert LIVES_SECONDS == 3600


async def test_a_newer_invitation_ends_the_older(cloud: Cloud) -> None:
    admission(cloud)
    older, newer = [await invite(cloud.service, "node1", ["compute"]) for _ in range(2)]
    await redeem(cloud, older, 403)
    await redeem(cloud, newer)


async def test_when_the_broker_is_away_the_invitation_is_kept(cloud: Cloud) -> None:
    lets_in = admission(cloud)
    secret = await invite(cloud.service, "node1", ["compute"])
    lets_in.broken = True
    assert "does not answer" in await redeem(cloud, secret, 503)
    lets_in.broken = False
    await redeem(cloud, secret)


async def test_joining_again_ends_what_the_host_had(cloud: Cloud) -> None:
    admission(cloud)
    first = await redeem(cloud, await invite(cloud.service, "node1", ["compute"]))
    token = await cloud.login("agent-node1", first["password"], project("service"))
    second = await redeem(cloud, await invite(cloud.service, "node1", ["compute"]))
    assert (await cloud.try_login("agent-node1", first["password"])).status == 401
    assert (await cloud.send("GET", "/v3/auth/tokens", token=token, **{"x-subject-token": token})).status == 401
    token = await cloud.login("agent-node1", second["password"], project("service"))
    assert await expel_host(cloud.service, "node1")
    assert (await cloud.try_login("agent-node1", second["password"])).status == 401
    assert (await cloud.send("GET", "/v3/auth/tokens", token=token, **{"x-subject-token": token})).status == 401
    assert not await expel_host(cloud.service, "node1")


async def test_the_secret_is_nowhere_in_the_database(cloud: Cloud) -> None:
    secret = await invite(cloud.service, "node1", ["compute"])
    rows = await cloud.service.db.read(lambda c: c.execute(sa.select(host_invitations)).mappings().all())
    assert secret not in repr(rows)


async def test_one_machines_cloud_takes_no_hosts(cloud: Cloud) -> None:
    secret = await invite(cloud.service, "node1", ["compute"])
    assert "takes no hosts" in await redeem(cloud, secret, 409)
