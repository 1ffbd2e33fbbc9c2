"""A cloud one of whose domains has a real directory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from kilonova.http.client import Reply
from kilonova.identity.ldap import refresh
from kilonova.identity.ldap.store import public_id
from kilonova.identity.settings import IdentitySettings
from tests.api.identity.slapd import SLAPD, Slapd, slapd
from tests.api.identity.support import Cloud
from tests.api.identity.support import cloud as make_cloud
from tests.api.support import ApiClient


@dataclass
class Corp:
    """The cloud, its administrator, and the domain `corp` with the directory."""

    cloud: Cloud
    admin: ApiClient
    slapd: Slapd
    domain_id: str
    domain_name: str = "corp"

    async def configure(self, **more: Any) -> None:
        """Another configuration of the directory."""
        config = {"identity": {"driver": "ldap"}, "ldap": self.slapd.options(**more)}
        reply = await self.admin.send("PUT", f"/v3/domains/{self.domain_id}/config", {"config": config})
        assert reply.status in (200, 201), reply.content

    async def login(self, name: str, password: str, scope: Any = None) -> Reply:
        return await self.cloud.try_login(name, password, scope, {"name": self.domain_name})

    async def token(self, name: str, scope: Any = None) -> str:
        """The token of a person, whose password is its name."""
        reply = await self.login(name, name, scope)
        assert reply.status == 201, reply.content
        return reply.headers["x-subject-token"]

    def id_of(self, uid: str) -> str:
        return public_id(self.domain_id, "user", uid)

    def team_id(self, cn: str) -> str:
        return public_id(self.domain_id, "group", cn)

    async def users(self, **query: str) -> dict[str, Any]:
        """Users of the domain, by name."""
        words = "&".join(f"{key}={value}" for key, value in ({"domain_id": self.domain_id} | query).items())
        return {one["name"]: one for one in (await self.admin.get(f"/v3/users?{words}"))["users"]}

    async def members(self, cn: str) -> set[str]:
        """Names of who is in a group."""
        return {one["name"] for one in (await self.admin.get(f"/v3/groups/{self.team_id(cn)}/users"))["users"]}

    async def give(self, cn: str, role: str = "member") -> dict[str, Any]:
        """A role on project demo for a group; the scope of the project."""
        where = f"/v3/projects/{self.cloud.made.project_id}/groups/{self.team_id(cn)}/roles"
        await self.admin.put(f"{where}/{self.cloud.made.role_ids[role]}", None, 204)
        return {"project": {"id": self.cloud.made.project_id}}

    async def is_good(self, token: str) -> bool:
        """Whether a token opens anything."""
        reply = await self.cloud.send("GET", "/v3/auth/projects", token=token)
        assert reply.status in (200, 401), reply.content
        return reply.status == 200

    async def refresh(self) -> int:
        """What the loop does when its time has come."""
        directory = await self.cloud.service.directories.of(self.domain_id)
        assert directory is not None
        return await refresh.whole(self.cloud.service, directory)


@asynccontextmanager
async def make_corp(settings: IdentitySettings | None = None) -> AsyncIterator[Corp]:
    """The cloud and the directory, both answering."""
    if SLAPD is None:
        pytest.skip("slapd is not installed")
    with slapd() as directory:
        async with make_cloud(settings) as cloud:
            admin = await cloud.admin()
            domain = (await admin.post("/v3/domains", {"domain": {"name": "corp"}}, 201))["domain"]["id"]
            made = Corp(cloud, admin, directory, domain)
            await made.configure()
            yield made


@pytest.fixture
async def corp() -> AsyncIterator[Corp]:
    async with make_corp() as made:
        yield made
