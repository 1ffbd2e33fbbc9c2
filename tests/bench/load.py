"""A driver: the admin of a cloud over plain HTTP, with what a benchmark asks for."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from tests.fake_cloud import FakeCloud

_VERSIONS = {"OpenStack-API-Version": "compute 2.90"}


class Driver:
    """Logged in as the admin, in a project without limits, with a network, an image and a flavor."""

    def __init__(self, cloud: FakeCloud) -> None:
        self._password = cloud.secrets["admin_password"]
        limits = httpx.Limits(max_connections=32, max_keepalive_connections=32)
        self.http = httpx.AsyncClient(base_url=cloud.url, timeout=120, trust_env=False, limits=limits)
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

    async def login(self) -> str:
        """A new token, by password."""
        answer = await self.http.post("/identity/v3/auth/tokens", json=self.credentials())
        answer.raise_for_status()
        return str(answer.headers["X-Subject-Token"])

    async def ask(self, method: str, path: str, json: Any = None, headers: dict[str, str] | None = None) -> Any:
        """The JSON answer; an error is an error."""
        sent = {"X-Auth-Token": self.token, **_VERSIONS, **(headers or {})}
        answer = await self.http.request(method, path, json=json, headers=sent)
        if answer.is_error:
            raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
        return answer.json() if answer.content else None

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
            if (await self.http.get(f"/compute/v2.1/servers/{server_id}", headers=headers)).status_code == 404:
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
        await self.http.aclose()
