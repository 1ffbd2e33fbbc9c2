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
HOST = "OS-EXT-SRV-ATTR:host"

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
        held: dict[str, dict[str, dict[str, int]]] = {}  # consumer → host → what is claimed there
        for provider in (await self._ask("GET", "/placement/resource_providers"))["resource_providers"]:
            answer = await self._ask("GET", f"/placement/resource_providers/{provider['uuid']}/allocations")
            for consumer, claim in answer["allocations"].items():
                held.setdefault(consumer, {})[provider["name"]] = claim["resources"]
        waiting = await self._migrations()
        found = []
        for id_, hosts in held.items():
            if id_ not in servers and id_ not in waiting:
                path, names = f"/placement/allocations/{id_}", ", ".join(hosts)
                found.append(Trouble(f"host {names} is claimed for server {id_}, which is gone", self._mender(path)))
        moving = set(waiting.values())
        for id_, row in servers.items():
            if _settled(row) and row["status"] != "SHELVED_OFFLOADED" and id_ not in moving:
                found += _claim_differs(row, held.get(id_, {}))
        return found

    async def _migrations(self) -> dict[str, str]:
        """Open migrations, under whose ids placement holds what a revert needs → their servers."""
        found: dict[str, str] = {}
        for status in migration_store.OPEN:
            answer = await self._ask("GET", f"/compute/v2.1/os-migrations?status={status}")
            found |= {one["uuid"]: one["instance_uuid"] for one in answer["migrations"]}
        return found

    async def _ports(self, servers: dict[str, dict[str, Any]]) -> list[Trouble]:
        found = []
        for port in await self._all("/network/v2.0/ports?sort_key=id", "ports"):
            if not port["device_owner"].startswith("compute:"):
                continue
            server = servers.get(port["device_id"])
            if server is None:
                what = f"port {port['id']} is bound for server {port['device_id']}, which is gone"
                found.append(Trouble(what, self._mender(f"/network/v2.0/ports/{port['id']}")))
            elif _settled(server) and server[HOST] and port["binding:host_id"] not in ("", server[HOST]):
                where = f"is bound on {port['binding:host_id']}, its server {server['id']} is on {server[HOST]}"
                found.append(Trouble(f"port {port['id']} {where}"))
        return found

    async def _attachments(self, servers: dict[str, dict[str, Any]]) -> list[Trouble]:
        found, pairs = [], set()
        for one in (await self._ask("GET", "/volume/v3/attachments?all_tenants=1"))["attachments"]:
            pairs.add((one["instance"], one["volume_id"]))
            if one["instance"] and one["instance"] not in servers:
                what = f"volume {one['volume_id']} is attached to server {one['instance']}, which is gone"
                found.append(Trouble(what, self._mender(f"/volume/v3/attachments/{one['id']}")))
        for id_, row in servers.items():
            said = {volume["id"] for volume in row["os-extended-volumes:volumes_attached"]}
            known = {volume for server, volume in pairs if server == id_}
            if _settled(row) and said != known:
                odd = ", ".join(sorted(said ^ known))
                found.append(Trouble(f"server {id_} and block storage do not agree about volume {odd}"))
        return found

    def _mender(self, path: str) -> Mend:
        async def mend() -> None:
            await self._ask("DELETE", path)

        return mend


def _settled(row: dict[str, Any]) -> bool:
    """Whether nothing is under way with the server, and it is what it says."""
    return not row["OS-EXT-STS:task_state"] and row["status"] not in ("BUILD", "ERROR", "DELETED")


def _claim_differs(row: dict[str, Any], hosts: dict[str, dict[str, int]]) -> list[Trouble]:
    """A server without its claim, with one elsewhere or with several, or with less or more than its flavor."""
    id_, host, flavor = row["id"], row[HOST], row["flavor"]
    if not hosts:
        return [Trouble(f"server {id_} ({row['status']}) has no claim on any host")]
    if set(hosts) != {row["OS-EXT-SRV-ATTR:hypervisor_hostname"]}:
        return [Trouble(f"server {id_} is on {host} and claims {', '.join(sorted(hosts))}")]
    claimed, specs = next(iter(hosts.values())), flavor.get("extra_specs") or {}
    wanted = {"VCPU": flavor["vcpus"], "MEMORY_MB": flavor["ram"]}
    wanted |= {name: int(specs[f"resources:{name}"]) for name in wanted if f"resources:{name}" in specs}
    pairs = [(name, claimed.get(name, 0), most) for name, most in wanted.items()]
    differing = [f"{name} {has} of {most}" for name, has, most in pairs if has != most]
    return [Trouble(f"server {id_} claims {', '.join(differing)}")] if differing else []
