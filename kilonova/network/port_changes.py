"""What compute changes on the ports of a server that is there: addresses and security groups, over REST."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

from kilonova.base.faults import conflict, invalid, not_found
from kilonova.http.client import Client

Json = dict[str, Any]


class PortChanges:
    """A part of contract.Networks, and the calls that all of it is made of."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def security_groups_of(self, token: str, server_id: str) -> list[Json]:
        """The security groups of the server's ports, each with its rules, as network shows them."""
        ports = await self._list(token, "ports", [("device_id", server_id)])
        ids = sorted({group for port in ports for group in port["security_groups"]})
        query = [("id", id_) for id_ in ids]
        return await self._list(token, "security-groups", query, key="security_groups") if ids else []

    async def add_security_group(self, token: str, project_id: str, server_id: str, group: str) -> None:
        """Every port of the server is in the group (name or id) too."""
        wanted = (await self._group_ids(token, project_id, [group]))[0]
        for port in await self._ports(token, server_id):
            if wanted not in port["security_groups"]:
                await self._put(token, port["id"], {"security_groups": [*port["security_groups"], wanted]})

    async def remove_security_group(self, token: str, project_id: str, server_id: str, group: str) -> None:
        """No port of the server is in the group any more. NOT_FOUND when none was."""
        gone = (await self._group_ids(token, project_id, [group]))[0]
        members = [port for port in await self._ports(token, server_id) if gone in port["security_groups"]]
        if not members:
            raise not_found("Security group", f"{group} of instance {server_id}", code="SecurityGroupNotFound")
        for port in members:
            kept = [one for one in port["security_groups"] if one != gone]
            await self._put(token, port["id"], {"security_groups": kept})

    async def add_fixed_ip(self, token: str, server_id: str, network_id: str) -> None:
        """The server's port on the network has one more address."""
        mine = [port for port in await self._ports(token, server_id) if port["network_id"] == network_id]
        if not mine:
            raise invalid(f"Instance {server_id} has no port on network {network_id[:80]}.")
        subnets = {ip["subnet_id"] for ip in mine[0]["fixed_ips"]}
        one_more = {"subnet_id": sorted(subnets)[0]} if subnets else {}
        await self._put(token, mine[0]["id"], {"fixed_ips": [*mine[0]["fixed_ips"], one_more]})

    async def remove_fixed_ip(self, token: str, server_id: str, address: str) -> None:
        """No port of the server has the address any more."""
        for port in await self._ports(token, server_id):
            kept = [ip for ip in port["fixed_ips"] if ip["ip_address"] != address]
            if len(kept) < len(port["fixed_ips"]):
                await self._put(token, port["id"], {"fixed_ips": kept})
                return
        raise invalid(f"Fixed IP address {address[:64]} was not found on instance {server_id}.")

    async def _ports(self, token: str, server_id: str) -> list[Json]:
        return await self._list(token, "ports", [("device_id", server_id)])

    async def _group_ids(self, token: str, project_id: str, groups: Iterable[str]) -> list[str]:
        wanted = list(groups)
        return chosen_groups(await self._groups(token, project_id), project_id, wanted) if wanted else []

    async def _groups(self, token: str, project_id: str) -> dict[str, str]:
        """Id → name of the project's security groups."""
        query = [("project_id", project_id), ("fields", "id"), ("fields", "name")]
        known = await self._list(token, "security-groups", query, key="security_groups")
        return {one["id"]: one["name"] for one in known}

    async def _group_names(self, token: str, ids: set[str]) -> dict[str, str]:
        """Id → name of security groups."""
        if not ids:
            return {}
        query = [("id", id_) for id_ in sorted(ids)] + [("fields", "id"), ("fields", "name")]
        return {one["id"]: one["name"] for one in await self._list(
            token, "security-groups", query, key="security_groups")}  # fmt: skip

    async def _get(self, token: str, noun: str, id_: str) -> Json:
        reply = await self._client.request("GET", f"/v2.0/{noun}s/{id_}", token=token)
        found: Json = reply.json()[noun]
        return found

    async def _put(self, token: str, port_id: str, values: Json) -> Json:
        reply = await self._client.request("PUT", f"/v2.0/ports/{port_id}", token=token, json={"port": values})
        changed: Json = reply.json()["port"]
        return changed

    async def _list(self, token: str, plural: str, query: list[tuple[str, str]], *, key: str = "") -> list[Json]:
        reply = await self._client.request("GET", f"/v2.0/{plural}?{urlencode(query)}", token=token)
        found: list[Json] = reply.json()[key or plural]
        return found


def chosen_groups(known: Mapping[str, str], project_id: str, groups: Iterable[str]) -> list[str]:
    """Ids of security groups given by name or id, of those known as id → name; an ambiguous name is CONFLICT."""
    return [_group_id(known, group, project_id) for group in dict.fromkeys(groups)]


def _group_id(known: Mapping[str, str], group: str, project_id: str) -> str:
    if group in known:
        return group
    named = [id_ for id_, name in known.items() if name == group]
    if len(named) > 1:
        raise conflict(
            f"Multiple security groups found matching '{group}'. Use an ID to be more specific.",
            code="NoUniqueMatch",
        )
    if not named:
        raise not_found("Security group", group, inside=f"project {project_id}", code="SecurityGroupNotFound")
    return named[0]
