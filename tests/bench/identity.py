"""Identity alone, in this process: 10,000 users with 100,000 assignments; what every request of the cloud pays for.

`make bench BENCH=identity`. Once on SQLite on disk, as embedded; once on a PostgreSQL that is started for it, whose own
CPU is not counted. Over HTTP the client is a process of its own, and not counted either.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import tempfile
import time
from asyncio.subprocess import PIPE
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from cryptography.fernet import Fernet
from sqlalchemy import Connection

from kilonova.base.world import LiveWorld
from kilonova.cli.serve import Listener
from kilonova.db.database import Database
from kilonova.db.migrations import ensure_current
from kilonova.db.server import server_database
from kilonova.db.sqlite import SqliteDatabase
from kilonova.http.app import Mounts
from kilonova.http.client import AsgiTransport
from kilonova.identity.bootstrap import Plan, bootstrap, endpoint_plans
from kilonova.identity.core import IdentityService
from kilonova.identity.schema import assignments, memberships, projects, users
from kilonova.identity.schema import groups as groups_table
from kilonova.identity.service import MIGRATIONS, identity_app
from kilonova.identity.settings import IdentitySettings
from kilonova.saga.seal import Sealer
from tests.bench.phases import Result
from tests.fake_cloud import ROOT
from tests.services import PostgreSQL, free_port

USERS, PROJECTS, GROUPS, EACH = 10_000, 1_000, 100, 10
SERVICES = ("identity", "compute", "image", "network", "placement", "volumev3")


class IdentityBench:
    """A cloud's accounts in a database of their own, and identity's door."""

    def __init__(self, folder: Path, url: str = "") -> None:
        self._folder = folder
        self._url = url
        self._world = LiveWorld("bench")
        self.token = ""
        self.credential: dict[str, str] = {}

    async def open(self) -> None:
        """Make the accounts; log in."""
        self.db = await self._database()
        await ensure_current(self.db, MIGRATIONS)
        sealer = Sealer([Fernet.generate_key().decode()])
        self.service = IdentityService(self._world, self.db, sealer)
        self.forgetful = IdentityService(self._world, self.db, sealer, IdentitySettings(token_cache_size=1))
        app = identity_app(self.service)
        self._door, self._port = AsgiTransport(app), free_port()
        self._listener = Listener(Mounts({"/identity": app}), ("127.0.0.1", self._port))
        plan = Plan("secret", endpoint_plans(dict.fromkeys(SERVICES, "http://localhost/$(project_id)s")), ())
        self._made = await bootstrap(self.service, plan)
        self.user_ids = [self._world.ids.hex32() for _ in range(USERS)]
        await self.db.write(self._fill)
        if self.db.dialect == "postgresql":  # as its autovacuum would within a minute
            await self.db.write(lambda connection: connection.execute(sa.text("ANALYZE")))
        self.token = await self.login()
        path = f"/v3/users/{self._made.user_ids['admin']}/application_credentials"
        made = await self.ask("POST", path, {"application_credential": {"name": "bench"}})
        self.credential = msgspec.json.decode(made)["application_credential"]

    async def _database(self) -> Database:
        if self._url:
            return await server_database("identity", self._url, self._world)
        return SqliteDatabase("identity", self._folder / "identity.db", self._world.clock)

    def _fill(self, connection: Connection) -> None:
        ids, random = self._world.ids, self._world.random
        role_ids = list(self._made.role_ids.values())
        project_ids, group_ids = [ids.hex32() for _ in range(PROJECTS)], [ids.hex32() for _ in range(GROUPS)]
        named: dict[str, Any] = {"domain_id": "default"}
        on = {**named, "enabled": True, "extra": {}, "options": {}}
        connection.execute(
            projects.insert(),
            [
                {**on, "id": id_, "name": f"p{n}", "name_key": f"p{n}", "parent_id": "default", "description": ""}
                for n, id_ in enumerate(project_ids)
            ],
        )
        connection.execute(
            users.insert(),
            [
                {**on, "id": id_, "name": f"user{n:05}", "name_key": f"user{n:05}", "password_hash": ""}
                for n, id_ in enumerate(self.user_ids)
            ],
        )
        connection.execute(
            groups_table.insert(),
            [
                {**named, "id": id_, "name": f"g{n}", "name_key": f"g{n}", "description": ""}
                for n, id_ in enumerate(group_ids)
            ],
        )
        connection.execute(
            memberships.insert(),
            [{"user_id": id_, "group_id": group_ids[n % GROUPS]} for n, id_ in enumerate(self.user_ids)],
        )
        given = [
            {
                "actor": actor,
                "actor_id": id_,
                "scope": "project",
                "scope_id": where,
                "role_id": role,
                "inherited": 0,
            }
            for actor, actors in (("user", self.user_ids[GROUPS:]), ("group", group_ids))
            for id_ in actors
            for where in random.sample(project_ids, EACH)
            for role in [random.choice(role_ids)]
        ]
        connection.execute(assignments.insert(), given)

    async def ask(self, method: str, path: str, body: Any = None) -> bytes:
        """The answer to one request of the administrator."""
        headers = {"x-auth-token": self.token, "content-type": "application/json"}
        reply = await self._door.send(method, path, headers, msgspec.json.encode(body) if body else b"")
        assert reply.status < 300, reply.content[:500]
        return reply.content

    async def login(self, identity: dict[str, Any] | None = None) -> str:
        """A token of the administrator, by password unless `identity` says otherwise."""
        user = {"name": "admin", "domain": {"id": "default"}, "password": "secret"}
        auth: dict[str, Any] = {"identity": identity or {"methods": ["password"], "password": {"user": user}}}
        if identity is None:
            auth["scope"] = {"project": {"name": "admin", "domain": {"id": "default"}}}
        sent = msgspec.json.encode({"auth": auth})
        reply = await self._door.send("POST", "/v3/auth/tokens", {"content-type": "application/json"}, sent)
        assert reply.status == 201, reply.content[:500]
        return reply.headers["x-subject-token"]

    async def by_credential(self) -> str:
        """A token by application credential."""
        secret = {"id": self.credential["id"], "secret": self.credential["secret"]}
        return await self.login({"methods": ["application_credential"], "application_credential": secret})

    async def over_http(self, times: int) -> float:
        """CPU milliseconds of one validation that another process asks for, over one connection that stays open."""
        await self._listener.start()
        words = (f"http://127.0.0.1:{self._port}/identity", self.token, str(times))
        client = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.bench.knock", *words, cwd=ROOT, stdin=PIPE, stdout=PIPE
        )
        assert client.stdin is not None and client.stdout is not None
        await client.stdout.readline()  # it has asked once
        used = _cpu_seconds()
        client.stdin.write(b"\n")
        assert await client.stdout.readline() == b"done\n"
        used = _cpu_seconds() - used
        await client.wait()
        await self._listener.close()
        return used * 1000 / times

    async def close(self) -> None:
        """Let go."""
        await self.db.close()
        await self._world.close()


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def _cost(phase: str, times: int, one: Callable[[int], Awaitable[Any]]) -> Result:
    """CPU milliseconds of one, threads included."""
    await one(0)
    began, used = time.perf_counter(), _cpu_seconds()
    for number in range(times):
        await one(number)
    return Result(phase, (_cpu_seconds() - used) * 1000 / times, times, time.perf_counter() - began)


async def _measure(bench: IdentityBench) -> list[Result]:
    tokens = [await bench.by_credential() for _ in range(2)]
    who = bench.user_ids[GROUPS:]

    def effective(number: int) -> str:
        return f"/v3/role_assignments?user.id={who[number]}&effective"

    began, asked = time.perf_counter(), 3000
    over_http = await bench.over_http(asked)
    return [
        await _cost("identity_cached", 20_000, lambda _: bench.service.tokens.validate(bench.token)),
        Result("identity_http", over_http, asked, time.perf_counter() - began),
        await _cost("identity_uncached", 600, lambda n: bench.forgetful.tokens.validate(tokens[n % 2])),
        await _cost("identity_credential", 300, lambda _: bench.by_credential()),
        await _cost("identity_password", 30, lambda _: bench.login()),
        await _cost("identity_hash", 30, lambda _: bench.service.passwords.matches("wrong", "")),
        await _cost("identity_effective", 200, lambda n: bench.ask("GET", effective(n))),
        await _cost("identity_names", 100, lambda n: bench.ask("GET", f"{effective(n)}&include_names")),
        await _cost("identity_page", 50, lambda n: bench.ask("GET", f"/v3/users?name__startswith=user0{n:02}")),
        await _cost("identity_user", 300, lambda n: bench.ask("GET", f"/v3/users/{who[n]}")),
        await _cost("identity_all", 3, lambda _: bench.ask("GET", "/v3/users")),
    ]


async def _once(url: str = "") -> list[Result]:
    with tempfile.TemporaryDirectory(prefix="kilonova-bench-") as folder:
        bench = IdentityBench(Path(folder), url)
        await bench.open()
        results = await _measure(bench)
        await bench.close()
    return results


async def measure() -> list[Result]:
    """The results of all parts, on SQLite and on PostgreSQL."""
    results = await _once()
    with PostgreSQL() as server, server.database() as url:
        beside = {result.phase: result.value for result in await _once(url)}
    return [replace(result, postgresql=beside[result.phase]) for result in results]
