"""How other services ask network over REST, with the user's token (and their service token beside it)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kilonova.base.faults import Fault, Kind, conflict, invalid, no_capacity, over_quota
from kilonova.network import addresses
from kilonova.network.contract import (
    ALONE,
    BESIDE_DEVICE,
    BESIDE_HEADER,
    BESIDE_NETWORK,
    BESIDE_PORTS,
    FixedIp,
    PortBinding,
    PortRequest,
    ServerNics,
)
from kilonova.network.port_changes import PortChanges, chosen_groups

Json = dict[str, Any]
_HOSTNAME = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)\Z")
DEFAULT_GROUP = ["default"]  # what network gives a port for which no group is named: it need not be looked up
MADE_FOR = "made_for"  # in a port's binding:profile: the server whose end is the port's end


class NetworkClient(PortChanges):
    """Implements contract.Networks over a Client of the network API."""

    async def check(self, token: str, project_id: str, requests: list[PortRequest]) -> list[PortRequest]:
        """At the API: all that is asked for exists, may be used and has room; nothing asked: the only network."""
        if not requests:
            return await self._only_network(token, project_id)
        quota: Json | None = None
        for request in requests:
            if request.port_id:
                await self._check_port(token, request)
            else:
                quota = await self._check_network(token, request)
        await self._check_room(token, project_id, sum(1 for request in requests if not request.port_id), quota)
        return requests

    async def _only_network(self, token: str, project_id: str) -> list[PortRequest]:
        """The project's own network or, when it has none, the shared one; no network at all is a server without NIC."""
        own = await self._list(token, "networks", [("project_id", project_id), ("router:external", "False")])
        shared = await self._list(token, "networks", [("shared", "True"), ("router:external", "False")])
        usable = {one["id"]: one for one in (*own, *shared) if one["subnets"]}
        if len(usable) > 1:
            raise conflict(
                "Multiple possible networks found, use a Network ID to be more specific.", code="NetworkAmbiguous"
            )
        await self._check_room(token, project_id, len(usable))
        return [PortRequest(network_id=id_) for id_ in usable]

    async def _check_port(self, token: str, request: PortRequest) -> None:
        port = await self._get(token, "port", request.port_id)
        if port["device_id"]:
            raise conflict(f"Port {request.port_id} is still in use.", code="PortInUse")
        if not port["fixed_ips"]:
            raise invalid(f"Port {request.port_id} requires a FixedIP in order to be used.", code="PortRequiresFixedIP")

    async def _check_network(self, token: str, request: PortRequest) -> Json | None:
        """The quota of ports of the token's project, when network says it beside."""
        asked = {BESIDE_HEADER: BESIDE_NETWORK}
        reply = await self._client.request("GET", f"/v2.0/networks/{request.network_id}", token=token, headers=asked)
        answer = reply.json()
        network = answer["network"]
        if not network["subnets"]:
            raise invalid(
                f"Network {request.network_id} requires a subnet in order to boot instances on.",
                code="NetworkRequiresSubnet",
            )
        if request.fixed_ip:
            await self._check_address(token, request)
        quota: Json | None = answer.get("quota")
        return quota

    async def _check_address(self, token: str, request: PortRequest) -> None:
        wanted = addresses.address(request.fixed_ip)
        subnets = await self._list(token, "subnets", [("network_id", request.network_id)])
        if not any(wanted in addresses.network(subnet["cidr"]) for subnet in subnets):
            raise invalid(
                f"Fixed IP address {wanted} is not a valid ip address for network {request.network_id}.",
                code="InvalidIpForNetwork",
            )
        query = [("network_id", request.network_id), ("fixed_ips", f"ip_address={wanted}")]
        if await self._list(token, "ports", query):
            raise conflict(f"Fixed IP address {wanted} is already in use.", code="FixedIpAlreadyInUse")

    async def _check_room(self, token: str, project_id: str, count: int, quota: Json | None = None) -> None:
        if quota is None:
            reply = await self._client.request("GET", f"/v2.0/quotas/{project_id}/details.json", token=token)
            quota = reply.json()["quota"]
        port = quota["port"]
        if count and 0 <= port["limit"] < port["used"] + count:
            raise over_quota("port", wanted=count, used=port["used"], limit=port["limit"])

    async def check_security_groups(self, token: str, project_id: str, groups: list[str]) -> None:
        """Each group (name or id) exists for the project; an ambiguous name is CONFLICT."""
        if groups != DEFAULT_GROUP:
            await self._group_ids(token, project_id, groups)

    async def bind(self, token: str, key: str, nics: ServerNics) -> list[PortBinding]:
        """Ports for all requests, in order, made or adopted, bound to the host; when one fails, none of them is left.

        The server may have others: they stay. One whose making was not answered is found by the caller's key.
        """
        wanted = [] if list(nics.security_groups) == DEFAULT_GROUP else nics.security_groups
        known = await self._groups(token, nics.project_id) if wanted else {}
        groups = chosen_groups(known, nics.project_id, wanted)
        bound: list[tuple[Json, PortRequest]] = []
        around = _Around()
        try:
            for index, request in enumerate(nics.requests):
                if request.port_id:
                    port = await self._adopt(token, nics, request)
                else:
                    port = await self._make(token, f"{key}/{index}", (nics, request, groups), around)
                    if not groups:
                        known.update(dict.fromkeys(port["security_groups"], DEFAULT_GROUP[0]))
                bound.append((port, request))
                _check_bound(port, nics.host)
        except Fault:
            for port, request in bound:
                await self.release(token, nics.server_id, _bare(port, request))
            raise
        return await self._bindings(token, bound, known, around)

    async def _make(
        self, token: str, key: str, wanted: tuple[ServerNics, PortRequest, list[str]], around: _Around
    ) -> Json:
        """A new port; `around` gets what network tells beside it."""
        nics, request, groups = wanted
        body: Json = {
            "network_id": request.network_id,
            "binding:profile": {MADE_FOR: nics.server_id},
            **_device(nics),
        }
        if groups:
            body["security_groups"] = groups
        if request.fixed_ip:
            body["fixed_ips"] = [{"ip_address": request.fixed_ip}]
        if _HOSTNAME.match(nics.hostname):
            body["dns_name"] = nics.hostname
        reply = await self._client.request(
            "POST", "/v2.0/ports", token=token, json={"port": body}, headers={BESIDE_HEADER: BESIDE_PORTS},
            idempotency_key=key,
        )  # fmt: skip
        answer = reply.json()
        around.take(answer)
        port: Json = answer["port"]
        if port.get("binding:host_id") not in (None, nics.host):
            return await self._put(token, port["id"], _device(nics))
        return port

    async def _adopt(self, token: str, nics: ServerNics, request: PortRequest) -> Json:
        port = await self._get(token, "port", request.port_id)
        if port["device_id"] not in ("", nics.server_id):
            raise conflict(f"Port {request.port_id} is still in use.", code="PortInUse")
        return await self._put(token, request.port_id, _device(nics))

    async def unbind(self, token: str, server_id: str, ports: list[PortBinding]) -> None:
        """Ports made for the server are deleted, adopted ones set free; gone is fine.

        Those that `ports` does not name are looked for, unless network says with the last that there are none.
        """
        alone = False
        for port in sorted(ports, key=lambda one: one.made_by_us):
            alone = await self._release(token, server_id, port.id, port.made_by_us)
        if alone:
            return
        for found in await self._list(token, "ports", [("device_id", server_id)]):
            marked = found.get("binding:profile", {}).get(MADE_FOR) == server_id
            await self._release(token, server_id, found["id"], marked)

    async def release(self, token: str, server_id: str, port: PortBinding) -> None:
        """One port: deleted when it was made for the server, else set free; gone is fine."""
        await self._release(token, server_id, port.id, port.made_by_us)

    async def _release(self, token: str, server_id: str, port_id: str, made_by_us: bool) -> bool:
        """Whether network says that the server has no other port."""
        try:
            if not made_by_us:
                await self._free(token, server_id, port_id)
                return False
            asked = {BESIDE_HEADER: BESIDE_DEVICE}
            reply = await self._client.request("DELETE", f"/v2.0/ports/{port_id}", token=token, headers=asked)
            return reply.headers.get(BESIDE_HEADER) == ALONE
        except Fault as fault:
            if fault.kind is not Kind.NOT_FOUND:
                raise
        return False

    async def _free(self, token: str, server_id: str, port_id: str) -> None:
        port = await self._get(token, "port", port_id)
        if port["device_id"] == server_id:
            await self._put(token, port_id, {"device_id": "", "device_owner": "", "binding:host_id": ""})

    async def ports_of(self, token: str, server_id: str) -> list[PortBinding]:
        """The server's ports with their status now."""
        found = await self._list(token, "ports", [("device_id", server_id), ("sort_key", "created_at")])
        return await self._bindings(token, [(port, PortRequest(port_id=port["id"])) for port in found])

    async def port_states(self, token: str, server_id: str) -> dict[str, str]:
        """Port id → ACTIVE or DOWN, of the server's ports."""
        return {port["id"]: port["status"] for port in await self._list(token, "ports", [("device_id", server_id)])}

    async def _bindings(
        self, token: str, bound: list[tuple[Json, PortRequest]], groups: Mapping[str, str] | None = None,
        around: _Around | None = None,
    ) -> list[PortBinding]:  # fmt: skip
        """With facts of networks, subnets, floating IPs and security groups, by one request each.

        `groups` (id → name) and what is `around` the ports are known already.
        """
        around = around or _Around()
        if ids := sorted({port["network_id"] for port, _ in bound if not around.has(port)}):
            found = await self._list(token, "networks", [("id", id_) for id_ in ids])
            around.take({"networks": found, "subnets": await self._list(
                token, "subnets", [("network_id", id_) for id_ in ids])})  # fmt: skip
        made = [_binding(port, request, around) for port, request in bound]
        floating = await self._floating(token, [port["id"] for port, request in bound if request.port_id])
        names = dict(groups or {})
        asked = {group for port, _ in bound for group in port["security_groups"]} - names.keys()
        names |= await self._group_names(token, asked)
        for binding, (port, _) in zip(made, bound, strict=True):
            binding.floating = floating.get(binding.id, [])
            binding.security_groups = sorted({names[one] for one in port["security_groups"] if one in names})
        return made

    async def _floating(self, token: str, port_ids: list[str]) -> dict[str, list[tuple[str, str]]]:
        """Port → [(floating address, fixed address)]; a port just made has none and is not asked for."""
        found: dict[str, list[tuple[str, str]]] = {}
        if port_ids:
            for one in await self._list(token, "floatingips", [("port_id", id_) for id_ in port_ids]):
                found.setdefault(one["port_id"], []).append((one["floating_ip_address"], one["fixed_ip_address"]))
        return found


class _Around:
    """Networks and subnets of ports, by id, as network shows them."""

    def __init__(self) -> None:
        self.networks: dict[str, Json] = {}
        self.subnets: dict[str, Json] = {}

    def take(self, answer: Json) -> None:
        """Remember those that the answer holds."""
        self.networks |= {one["id"]: one for one in answer.get("networks", ())}
        self.subnets |= {one["id"]: one for one in answer.get("subnets", ())}

    def has(self, port: Json) -> bool:
        """Whether all that the port is on is known."""
        return port["network_id"] in self.networks and all(ip["subnet_id"] in self.subnets for ip in port["fixed_ips"])


def _device(nics: ServerNics) -> Json:
    return {
        "device_id": nics.server_id,
        "device_owner": f"compute:{nics.availability_zone or 'nova'}",
        "binding:host_id": nics.host,
    }


def _check_bound(port: Json, host: str) -> None:
    if port.get("binding:vif_type") == "binding_failed":
        raise no_capacity(
            f"Binding failed for port {port['id']}, please check network's logs for more information.",
            inside=f"no living L2 agent on {host} can carry the network",
        )


def _bare(port: Json, request: PortRequest) -> PortBinding:
    return PortBinding(
        port["id"], port["network_id"], "", port["mac_address"], [], 0, port["status"], made_by_us=not request.port_id
    )


def _binding(port: Json, request: PortRequest, around: _Around) -> PortBinding:
    network = around.networks[port["network_id"]]
    of_port = [around.subnets[ip["subnet_id"]] for ip in port["fixed_ips"]]
    marked = port.get("binding:profile", {}).get(MADE_FOR) == port["device_id"]
    return PortBinding(
        id=port["id"],
        network_id=port["network_id"],
        network_name=network["name"],
        mac=port["mac_address"],
        fixed_ips=[
            FixedIp(ip["ip_address"], ip["subnet_id"], subnet["cidr"], subnet["gateway_ip"] or "")
            for ip, subnet in zip(port["fixed_ips"], of_port, strict=True)
        ],
        mtu=network["mtu"],
        status=port["status"],
        tag=request.tag,
        made_by_us=not request.port_id or marked,
        dns=list(dict.fromkeys(server for subnet in of_port for server in subnet["dns_nameservers"])),
        host_routes=[(route["destination"], route["nexthop"]) for subnet in of_port for route in subnet["host_routes"]],
        revision=port["revision_number"],
    )
