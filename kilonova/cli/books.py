"""The books of a live cloud, balanced through its public APIs as the admin: what one service holds for a server that
another has forgotten. The simulation balances the same books after every seed (sim/books.py).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from kilonova.cli.admin import Admin
from kilonova.compute.server import migration_store

BUSY_MINUTES = 15

Mend = Callable[[], Awaitable[Any]]


@dataclass(frozen=True)
class Trouble:
    """Something that does not balance, in a sentence; `mend` puts it right when that is safe."""

    what: str
    mend: Mend | None = None


class Books:
    """Reads every service as the admin and compares."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin
        self._ask, self._all = admin.ask, admin.all

    async def silent(self) -> list[Trouble]:
        """Workers and agents that do not report any more."""
        await self._admin.log_in()
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
        await self._admin.log_in()
        servers = {row["id"]: row for row in await self._all("/compute/v2.1/servers/detail?all_tenants=1", "servers")}
        found = [*self._stuck(servers)]
        found += await self._allocations(servers)
        found += await self._ports(servers)
        found += await self._attachments(servers)
        return found

    async def close(self) -> None:
        """Let go of the connection."""
        await self._admin.close()

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
