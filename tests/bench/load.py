"""A driver: the admin of a cloud over plain HTTP, with what a benchmark asks for.

It asks through aiohttp, as the driver that measured OpenStack did: a client that works hard on the same two processors
takes the cloud's caches away between two requests, and its own work would show in the cloud's figures.
"""

from __future__ import annotations

import asyncio
import json as codec
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.fake_cloud import FakeCloud

_VERSIONS = {"OpenStack-API-Version": "compute 2.90"}


@dataclass(frozen=True)
class Reply:
    """An answer that came whole; header names in any case."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> Any:
        """Its JSON; None when the answer is empty."""
        return codec.loads(self.content) if self.content else None


class Driver:
    """Logged in as the admin, in a project without limits, with a network, an image and a flavor.

    Make it on a running event loop."""

    def __init__(self, cloud: FakeCloud) -> None:
        self._password = cloud.secrets["admin_password"]
        self.http = aiohttp.ClientSession(cloud.url, timeout=aiohttp.ClientTimeout(total=120))
        self.token = self.project = self.network = self.image = ""

    async def prepare(self) -> None:
        """All that the phases stand on."""
        self.token = await self.login()
        shown = await self.ask("GET", "/identity/v3/auth/tokens", headers={"X-Subject-Token": self.token})
        self.project = shown["token"]["project"]["id"]
        unlimited = {"instances": -1, "cores": -1, "ram": -1}
        await self.ask("PUT", f"/compute/v2.1/os-quota-sets/{self.project}", {"quota_set": unlimited})
        await self.ask("PUT", f"/network/v2.0/quotas/{self.project}", {"quota": {"port": -1}})
        made = await self.ask("POST", "/network/v2.0/networks", {"network": {"name": "bench"}})
        self.network = made["network"]["id"]
        subnet = {"network_id": self.network, "ip_version": 4, "cidr": "10.64.0.0/16"}
        await self.ask("POST", "/network/v2.0/subnets", {"subnet": subnet})
        self.image = (await self.ask("GET", "/image/v2/images?name=cirros"))["images"][0]["id"]

    def credentials(self) -> dict[str, Any]:
        """The body of a login by password."""
        user = {"name": "admin", "domain": {"id": "default"}, "password": self._password}
        scope = {"project": {"name": "admin", "domain": {"id": "default"}}}
        return {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}}

    async def send(
        self, method: str, path: str, *, json: Any = None, data: Any = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """One request and its answer, whatever it says."""
        async with self.http.request(method, path, json=json, data=data, headers=headers) as answer:
            return Reply(answer.status, answer.headers, await answer.read())

    async def login(self) -> str:
        """A new token, by password."""
        answer = await self.send("POST", "/identity/v3/auth/tokens", json=self.credentials())
        if answer.status != 201:
            raise RuntimeError(f"login: {answer.status} {answer.content[:300]!r}")
        return answer.headers["X-Subject-Token"]

    async def ask(self, method: str, path: str, json: Any = None, headers: dict[str, str] | None = None) -> Any:
        """The JSON answer; an error is an error."""
        sent = {"X-Auth-Token": self.token, **_VERSIONS, **(headers or {})}
        answer = await self.send(method, path, json=json, headers=sent)
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {answer.content[:300]!r}")
        return answer.json()

    async def create(self, name: str, count: int = 1) -> str:
        """A server with one port (or several); its id as soon as it is accepted."""
        wanted: dict[str, Any] = {
            "name": name, "imageRef": self.image, "flavorRef": "1", "networks": [{"uuid": self.network}],
        }  # fmt: skip
        if count > 1:
            wanted |= {"min_count": count, "max_count": count}
        made = await self.ask("POST", "/compute/v2.1/servers", {"server": wanted})
        return str(made["server"]["id"])

    async def boot(self, name: str, *, pause_seconds: float = 0.05) -> str:
        """A server that is ACTIVE, asked for its state after every pause."""
        server_id = await self.create(name)
        while True:
            await asyncio.sleep(pause_seconds)
            status = (await self.ask("GET", f"/compute/v2.1/servers/{server_id}"))["server"]["status"]
            if status == "ACTIVE":
                return server_id
            if status == "ERROR":
                raise RuntimeError(f"server {server_id} is in ERROR")

    async def delete(self, server_id: str) -> None:
        """A server that is gone."""
        await self.ask("DELETE", f"/compute/v2.1/servers/{server_id}")
        headers = {"X-Auth-Token": self.token}
        while True:
            if (await self.send("GET", f"/compute/v2.1/servers/{server_id}", headers=headers)).status == 404:
                return
            await asyncio.sleep(0.05)

    async def count(self, status: str = "") -> int:
        """How many servers the project has (in this status)."""
        query = f"limit=1000&status={status}" if status else "limit=1000"
        return len((await self.ask("GET", f"/compute/v2.1/servers?{query}"))["servers"])

    async def until_active(self, count: int) -> None:
        """Returns when at least so many are ACTIVE."""
        while True:
            if await self.count("ACTIVE") >= count:
                return
            await asyncio.sleep(0.05)

    async def close(self) -> None:
        """Let go of the connections."""
        await self.http.close()
