"""What logging in leaves behind, and whom it keeps waiting."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.world import LiveWorld
from kilonova.identity.passwords import Passwords
from kilonova.identity.schema import metadata
from tests.api.identity.support import ADMIN_PASSWORD, DEMO_PASSWORD, Cloud, demo, project


class WatchingWorld(LiveWorld):
    """Knows how many things were done in threads at once, and in which."""

    def __init__(self) -> None:
        super().__init__("watching")
        self.now = self.most = 0
        self.threads: set[int] = set()

    async def blocking(self, fn: Callable[..., Any], *args: Any) -> Any:
        def watched() -> Any:
            self.threads.add(threading.get_ident())
            return fn(*args)

        self.now += 1
        self.most = max(self.most, self.now)
        try:
            return await super().blocking(watched)
        finally:
            self.now -= 1


def _rows(connection: Connection) -> dict[str, int]:
    counts = {name: sa.select(sa.func.count()).select_from(table) for name, table in metadata.tables.items()}
    return {name: int(connection.scalar(count) or 0) for name, count in counts.items()}


async def test_no_table_grows_with_the_tokens_that_are_issued(cloud: Cloud) -> None:
    mine = await demo(cloud)
    path = f"/v3/users/{cloud.made.user_ids['demo']}/application_credentials"
    made = (await mine.post(path, {"application_credential": {"name": "ci"}}, 201))["application_credential"]
    secret = {"id": made["id"], "secret": made["secret"]}
    by_secret = {"methods": ["application_credential"], "application_credential": secret}
    before = await cloud.service.db.read(_rows)
    tokens = set()
    for scope in (None, "unscoped", project("admin"), {"system": {"all": True}}):
        token = await cloud.login("admin", ADMIN_PASSWORD, scope)
        again = {"methods": ["token"], "token": {"id": token}}
        for identity in (by_secret, again):
            reply = await cloud.send("POST", "/v3/auth/tokens", {"auth": {"identity": identity}})
            assert reply.status == 201, reply.content
            tokens |= {token, reply.headers["x-subject-token"]}
        await cloud.try_login("admin", "wrong")
    for token in tokens:
        reply = await cloud.send("GET", "/v3/auth/tokens", token=token, **{"x-subject-token": token})
        assert reply.status == 200, reply.content
    assert len(tokens) == 12
    assert await cloud.service.db.read(_rows) == before


async def test_passwords_are_hashed_beside_the_event_loop_and_few_at_once(cloud: Cloud) -> None:
    world = WatchingWorld()
    cloud.service.passwords = Passwords(world, cloud.service.settings.password_checks_at_once)
    logins = [cloud.try_login(name, password) for name in ("demo", "nobody") for password in (DEMO_PASSWORD, "x", "y")]
    replies = await asyncio.gather(*logins)
    assert [reply.status for reply in replies] == [201, 401, 401, 401, 401, 401]
    assert world.most == cloud.service.settings.password_checks_at_once
    assert threading.get_ident() not in world.threads
    await world.close()
