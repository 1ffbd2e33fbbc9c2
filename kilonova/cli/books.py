"""The books of a live cloud, balanced through its public APIs as the admin: what one service holds for a server that
another has forgotten. The simulation balances the same books after every seed (sim/books.py).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from kilonova.compute.server import migration_store
from kilonova.http.client import Client, HttpTransport, Reply

BUSY_MINUTES = 15

Mend = Callable[[], Awaitable[Any]]


@dataclass(frozen=True)
class Trouble:
    """Something that does not balance, in a sentence; `mend` puts it right when that is safe."""

    what: str
    mend: Mend | None = None


class Doors:
    """Every service as one: the first word of a path says which is asked."""

    def __init__(self, url_of: Callable[[str], str]) -> None:
        self._url_of = url_of
        self._open: dict[str, Client] = {}

    async def request(self, method: str, path: str, **options: Any) -> Reply:
        """As the service answers."""
        _, mount, rest = path.split("/", 2)
        if mount not in self._open:
            self._open[mount] = Client(HttpTransport(self._url_of(f"/{mount}"), timeout_seconds=60))
        return await self._open[mount].request(method, f"/{rest}", **options)

    async def close(self) -> None:
        """Let go of all connections."""
        for client in self._open.values():
            await client.close()


class Books:
    """Reads every service as the admin and compares."""

    def __init__(self, url_of: Callable[[str], str], admin_password: str) -> None:
        """`url_of("/compute")` is where that service is asked."""
        self._doors = Doors(url_of)
        self._admin_password = admin_password
        self._token = ""

    async def silent(self) -> list[Trouble]:
        """Workers and agents that do not report any more."""
        await self._log_in()
        found = []
        for one in (await self._ask("GET", "/compute/v2.1/os-services"))["services"]:
            if one["state"] != "up":
                found.append(Trouble(f"{one['binary']} on {one['host']} is down: last heard {one['updated_at']}"))
        for one in (await self._ask("GET", "/volume/v3/os-services"))["services"]:
            if one["state"] != "up":
                found.append(Trouble(f"{one['binary']} on {one['host']} is down: last heard {one['updated_at']}"))
        for one in (await self._ask("GET", "/network/v2.0/agents"))["agents"]:
            if not one["alive"]:
                found.append(
                    Trouble(f"{one['binary']} on {one['host']} is down: last heard {one['heartbeat_timestamp']}")
                )
        return found

    async def troubles(self) -> list[Trouble]:
        """All that does not balance. Servers that are being built or deleted right now are left out."""
        await self._log_in()
        servers = {row["id"]: row for row in await self._all("/compute/v2.1/servers/detail?all_tenants=1", "servers")}
        found = [*self._stuck(servers)]
        found += await self._allocations(servers)
        found += await self._ports(servers)
        found += await self._attachments(servers)
        return found

    async def close(self) -> None:
        """Let go of the connection."""
        await self._doors.close()

    async def _log_in(self) -> None:
        user = {"name": "admin", "domain": {"id": "default"}, "password": self._admin_password}
        scope = {"project": {"name": "admin", "domain": {"id": "default"}}}
        auth = {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}
        reply = await self._doors.request("POST", "/identity/v3/auth/tokens", json={"auth": auth})
        self._token = reply.headers["x-subject-token"]

    async def _ask(self, method: str, path: str) -> Any:
        headers = {"openstack-api-version": "compute 2.90, volume 3.44, placement 1.36"}
        return (await self._doors.request(method, path, token=self._token, headers=headers)).json()

    async def _all(self, path: str, noun: str) -> list[dict[str, Any]]:
        """Every page of a list."""
        rows: list[dict[str, Any]] = []
        joiner = "&" if "?" in path else "?"
        while True:
            marker = f"&marker={rows[-1]['id']}" if rows else ""
            page = (await self._ask("GET", f"{path}{joiner}limit=500{marker}"))[noun]
            rows += page
            if len(page) < 500:
                return rows

    def _stuck(self, servers: dict[str, dict[str, Any]]) -> list[Trouble]:
        long_ago = datetime.now(UTC) - timedelta(minutes=BUSY_MINUTES)
        return [
            Trouble(f"server {id_} is {row['OS-EXT-STS:task_state']} for more than {BUSY_MINUTES} minutes")
            for id_, row in servers.items()
            if row["OS-EXT-STS:task_state"] and datetime.fromisoformat(row["updated"]) < long_ago
        ]

    async def _allocations(self, servers: dict[str, dict[str, Any]]) -> list[Trouble]:
        held: dict[str, str] = {}
        for provider in (await self._ask("GET", "/placement/resource_providers"))["resource_providers"]:
            answer = await self._ask("GET", f"/placement/resource_providers/{provider['uuid']}/allocations")
            held |= dict.fromkeys(answer["allocations"], provider["name"])
        found = []
        waiting = await self._migrations()
        for id_, host in held.items():
            if id_ not in servers and id_ not in waiting:
                path = f"/placement/allocations/{id_}"
                found.append(Trouble(f"host {host} is claimed for server {id_}, which is gone", self._mender(path)))
        for id_, row in servers.items():
            if row["status"] not in ("BUILD", "ERROR", "SHELVED_OFFLOADED", "DELETED") and id_ not in held:
                found.append(Trouble(f"server {id_} ({row['status']}) has no claim on any host"))
        return found

    async def _migrations(self) -> set[str]:
        """Ids under which placement holds what a revert needs."""
        found: set[str] = set()
        for status in migration_store.OPEN:
            answer = await self._ask("GET", f"/compute/v2.1/os-migrations?status={status}")
            found |= {one["uuid"] for one in answer["migrations"]}
        return found

    async def _ports(self, servers: dict[str, dict[str, Any]]) -> list[Trouble]:
        found = []
        for port in await self._all("/network/v2.0/ports?sort_key=id", "ports"):
            if port["device_owner"].startswith("compute:") and port["device_id"] not in servers:
                what = f"port {port['id']} is bound for server {port['device_id']}, which is gone"
                found.append(Trouble(what, self._mender(f"/network/v2.0/ports/{port['id']}")))
        return found

    async def _attachments(self, servers: dict[str, dict[str, Any]]) -> list[Trouble]:
        found = []
        for one in (await self._ask("GET", "/volume/v3/attachments?all_tenants=1"))["attachments"]:
            if one["instance"] and one["instance"] not in servers:
                what = f"volume {one['volume_id']} is attached to server {one['instance']}, which is gone"
                found.append(Trouble(what, self._mender(f"/volume/v3/attachments/{one['id']}")))
        return found

    def _mender(self, path: str) -> Mend:
        async def mend() -> None:
            await self._ask("DELETE", path)

        return mend
