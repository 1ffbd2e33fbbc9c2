"""Attach a NIC to a server and detach it again, while its guest runs, is paused or is off.

The answer of an attach is the port, so the request waits until the guest has the NIC. Lists ask network: only it knows
whether a port is up.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from sqlalchemy import Connection

from kilonova.base.faults import Fault, invalid, not_found
from kilonova.base.ids import is_uuid
from kilonova.compute.core import Compute, on_host
from kilonova.compute.schema import journal
from kilonova.compute.server import addresses, ports_store, states, store
from kilonova.compute.server.begin import ADMIN, ended, load, new_operation, record_beside
from kilonova.compute.server.create_checks import checked_ip
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.http.schema import since
from kilonova.network.contract import PortBinding, PortRequest
from kilonova.policy.personas import PROJECT_MEMBER_OR_ADMIN, PROJECT_READER_OR_ADMIN
from kilonova.policy.rules import Rule
from kilonova.saga.journal import OperationRow
from kilonova.saga.operation import Kind, Operation, Step

PATIENCE_SECONDS = 60.0


class Ip(msgspec.Struct, forbid_unknown_fields=True):
    ip_address: str


class Attach(msgspec.Struct, forbid_unknown_fields=True):
    """{"interfaceAttachment": {…}}; nothing in it is the project's only network."""

    port_id: str | None = None
    net_id: str | None = None
    fixed_ips: Annotated[list[Ip], msgspec.Meta(min_length=1, max_length=1)] | None = None
    tag: Annotated[str | None, since("2.49")] = None


# ── attach: the API's part


async def attach(compute: Compute, request: Request[Attach]) -> dict[str, Any]:
    """POST /servers/{id}/os-interface: 200 with the port, once the guest has its NIC."""
    server = await load(compute, request)
    states.check("attach_interface", server.now(), admin=request.allows(ADMIN))
    wanted = await _wanted(compute, request, server)
    args = {"server_id": server.id, "wanted": msgspec.to_builtins(wanted)}
    row = new_operation(compute, request, "attach_interface", server.id, args)
    await record_beside(compute, request, "attach_interface", row, _nothing)
    await compute.conductor.run_operation(row.id)
    await ended(compute, row.id)
    port = await compute.db.read(_bound_by, row.id)
    port.status = "ACTIVE"  # the flow waited for that
    return {"interfaceAttachment": shown(request, port)}


async def _wanted(compute: Compute, request: Request[Attach], server: store.Server) -> PortRequest:
    want = request.body
    for name, id_ in (("port_id", want.port_id), ("net_id", want.net_id)):
        if id_ is not None and not is_uuid(id_):
            raise invalid(f"Invalid input for field/attribute {name}. Value: {id_[:60]}. It is not a UUID.")
    if want.port_id and want.net_id:
        raise invalid("Must not input both network_id and port_id")
    if want.fixed_ips and not want.net_id:
        raise invalid("Must input network_id when request IP address")
    if want.tag is not None and (not 0 < len(want.tag) <= 60 or "/" in want.tag or "," in want.tag):
        raise invalid("Invalid input for field/attribute tag: 1 to 60 characters without slash and comma.")
    address = _address(want.fixed_ips[0].ip_address) if want.fixed_ips else ""
    asked = PortRequest(want.port_id or "", want.net_id or "", address, want.tag or "")
    try:
        found = await compute.peers.networks.check(
            request.caller.token, server.project_id, [asked] if want.port_id or want.net_id else []
        )
    except Fault as fault:
        if fault.code == "NetworkAmbiguous":
            raise invalid(fault.message, hint="Name the network.", code=fault.code) from fault
        raise
    if not found:
        raise invalid("No network is there for the interface.", hint="Create a network with a subnet first.")
    return msgspec.structs.replace(found[0], tag=want.tag or "")


def _address(text: str) -> str:
    checked = checked_ip(text, 6 if ":" in text else 4, "interfaceAttachment.fixed_ips.ip_address")
    return checked or text


def _nothing(connection: Connection, server: store.Server) -> None:
    """The record changes when there is a port."""


def _bound_by(connection: Connection, operation_id: str) -> PortBinding:
    step = journal.step(connection, operation_id, "bind_port", 0)
    if step is None:
        raise not_found("Port of operation", operation_id)
    return msgspec.convert(step.result, PortBinding)


# ── attach: the flow, run by a conductor


async def attach_flow(op: Operation[Compute], compute: Compute, server_id: str, wanted: PortRequest, host: str) -> None:
    """Read down: from a wish to a NIC in the guest on a port that is up."""
    there = on_host(host)
    await op.write_with_next("what network has is what the server shows", _as_it_is, server_id, undo=compare)
    port = await op.step(
        "host asks network for a port", there.bind_port, server_id, f"{op.id}/port", wanted, undo=there.unbind_port,
        patience_seconds=PATIENCE_SECONDS,
    )  # fmt: skip
    await op.write("servers: addresses recorded", _add_port, server_id, port)
    await op.step(
        "host plugs the NIC into the guest", there.plug_port, server_id, port, undo=there.unplug_port,
        patience_seconds=PATIENCE_SECONDS,
    )  # fmt: skip
    await op.finish("the interface is attached", _done)


def _as_it_is(connection: Connection, server_id: str) -> None:
    """The line in the journal is there for its undo, which comes after all others."""


async def compare(step: Step[Compute], server_id: str) -> None:
    """Undo, when network has the port no more: whoever compared while it had it wrote it into the record."""
    await addresses.refresh(step.services, server_id, overtake=True)


# ── detach


async def detach(compute: Compute, request: Request[Any]) -> Answer:
    """DELETE /servers/{id}/os-interface/{port}: 202; a port that was made for the server goes, others are set free."""
    server = await load(compute, request)
    states.check("detach_interface", server.now(), admin=request.allows(ADMIN))
    port = _of(store.ports_of(server), request.path["port_id"])
    args = {"server_id": server.id, "port": msgspec.to_builtins(port)}
    row = new_operation(compute, request, "detach_interface", server.id, args)
    await record_beside(compute, request, "detach_interface", row, _nothing)
    await compute.conductor.run_operation(row.id)
    return Answer(None)


def _of(ports: list[PortBinding], port_id: str) -> PortBinding:
    for port in ports:
        if port.id == port_id:
            return port
    raise not_found("Port", port_id[:80], code="PortNotFound")


async def detach_flow(op: Operation[Compute], compute: Compute, server_id: str, port: PortBinding, host: str) -> None:
    """Read down: the guest lets go of the NIC, then network takes the port back."""
    there = on_host(host)
    await op.step(
        "host takes the NIC out of the guest", there.unplug_port, server_id, port, undo=there.plug_port,
        patience_seconds=PATIENCE_SECONDS,
    )  # fmt: skip
    await op.step(
        "host gives the port back to network", there.release_port, server_id, port, patience_seconds=PATIENCE_SECONDS
    )
    await op.finish("servers: the port is gone", addresses.forget, server_id, port.id)


# ── units


def _add_port(connection: Connection, server_id: str, port: PortBinding) -> None:
    server = store.get(connection, server_id, deleted=True, lock=True)
    others = [one for one in store.ports_of(server) if one.id != port.id]
    ports_store.replace(connection, server_id, server.ports_revision, [*others, port])


def _done(connection: Connection) -> None:
    """The record says it all already."""


def _failed(connection: Connection, row: OperationRow, fault: Fault) -> None:
    """The steps' undos left the server as it was."""


# ── list and show


def shown(request: Request[Any], port: PortBinding) -> dict[str, Any]:
    """An attachment as clients of the request's version see it."""
    one: dict[str, Any] = {
        "net_id": port.network_id,
        "port_id": port.id,
        "mac_addr": port.mac,
        "port_state": port.status,
        "fixed_ips": [{"subnet_id": ip.subnet_id, "ip_address": ip.address} for ip in port.fixed_ips],
    }
    if request.version >= (2, 70):
        one["tag"] = port.tag or None
    return one


async def _ports(compute: Compute, request: Request[Any]) -> list[PortBinding]:
    server = await load(compute, request)
    tags = {port.id: port.tag for port in store.ports_of(server)}
    found = await compute.peers.networks.ports_of(request.caller.token, server.id)
    for port in found:
        port.tag = tags.get(port.id, "")
    return found


async def index(compute: Compute, request: Request[Any]) -> dict[str, Any]:
    """GET /servers/{id}/os-interface."""
    return {"interfaceAttachments": [shown(request, port) for port in await _ports(compute, request)]}


async def show(compute: Compute, request: Request[Any]) -> dict[str, Any]:
    """GET /servers/{id}/os-interface/{port}."""
    return {"interfaceAttachment": shown(request, _of(await _ports(compute, request), request.path["port_id"]))}


# ── addresses and security groups of the ports that are there


class AddFixedIp(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    network_id: str


class RemoveFixedIp(msgspec.Struct, forbid_unknown_fields=True):
    address: str


class Group(msgspec.Struct, forbid_unknown_fields=True):
    name: str


async def add_fixed_ip(compute: Compute, request: Request[AddFixedIp]) -> Answer:
    """POST /servers/{id}/action {"addFixedIp"}: its port on the network has one more address."""
    server = await load(compute, request)
    await compute.peers.networks.add_fixed_ip(request.caller.token, server.id, request.body.network_id)
    await addresses.refresh(compute, server.id)
    return Answer(None)


async def remove_fixed_ip(compute: Compute, request: Request[RemoveFixedIp]) -> Answer:
    """POST /servers/{id}/action {"removeFixedIp"}."""
    server = await load(compute, request)
    await compute.peers.networks.remove_fixed_ip(request.caller.token, server.id, request.body.address)
    await addresses.refresh(compute, server.id)
    return Answer(None)


async def add_group(compute: Compute, request: Request[Group]) -> Answer:
    """POST /servers/{id}/action {"addSecurityGroup"}: every port of the server is in the group."""
    server, name = await load(compute, request), _group_name(request.body)
    networks, token = compute.peers.networks, request.caller.token
    await networks.add_security_group(token, server.project_id, server.id, name)
    await addresses.refresh(compute, server.id)
    return Answer(None)


async def remove_group(compute: Compute, request: Request[Group]) -> Answer:
    """POST /servers/{id}/action {"removeSecurityGroup"}."""
    server, name = await load(compute, request), _group_name(request.body)
    networks, token = compute.peers.networks, request.caller.token
    await networks.remove_security_group(token, server.project_id, server.id, name)
    await addresses.refresh(compute, server.id)
    return Answer(None)


def _group_name(body: Group) -> str:
    if not body.name.strip():
        raise invalid("Security group name is missing.")
    return body.name


async def groups(compute: Compute, request: Request[Any]) -> dict[str, Any]:
    """GET /servers/{id}/os-security-groups: the groups of its ports, with their rules."""
    server = await load(compute, request)
    found = await compute.peers.networks.security_groups_of(request.caller.token, server.id)
    return {"security_groups": [_group(one) for one in found]}


def _group(one: dict[str, Any]) -> dict[str, Any]:
    inbound = [rule for rule in one["security_group_rules"] if rule["direction"] == "ingress"]
    return {
        "id": one["id"],
        "name": one["name"],
        "description": one["description"],
        "tenant_id": one["project_id"],
        "rules": [_rule(rule, one) for rule in inbound],
    }


def _rule(rule: dict[str, Any], group: dict[str, Any]) -> dict[str, Any]:
    """A rule in the words that compute has always used: only what comes in."""
    remote = rule.get("remote_group_id")
    return {
        "id": rule["id"],
        "parent_group_id": group["id"],
        "ip_protocol": (rule.get("protocol") or "").lower() or None,
        "from_port": rule.get("port_range_min"),
        "to_port": rule.get("port_range_max"),
        "group": {"name": group["name"], "tenant_id": group["project_id"]} if remote == group["id"] else {},
        "ip_range": {} if remote else {"cidr": rule.get("remote_ip_prefix") or "0.0.0.0/0"},
    }


# ── the declaration

KINDS: tuple[Kind[Compute], ...] = (
    Kind("attach_interface", attach_flow, _failed, undos=(compare,)),
    Kind("detach_interface", detach_flow, _failed),
)
_P = "os_compute_api:os-attach-interfaces:{}"
_IPS = "os_compute_api:os-multinic:{}"
_GROUPS = "os_compute_api:os-security-groups:{}"
_ALL = "/servers/{server_id}/os-interface"
_ONE = f"{_ALL}/{{port_id}}"
_ACTION = "/servers/{server_id}/action"
_OF_SERVER = "/servers/{server_id}/os-security-groups"
ROUTES = (
    Route(method="GET", path=_ALL, handler=index, policy=_P.format("list")),
    Route(method="POST", path=_ALL, handler=attach, policy=_P.format("create"), body=Attach,
          envelope="interfaceAttachment"),
    Route(method="GET", path=_ONE, handler=show, policy=_P.format("show")),
    Route(method="DELETE", path=_ONE, handler=detach, policy=_P.format("delete"), success=202),
    Route(method="POST", path=_ACTION, handler=add_fixed_ip, policy=_IPS.format("add"), body=AddFixedIp,
          action="addFixedIp", until="2.43", success=202),
    Route(method="POST", path=_ACTION, handler=remove_fixed_ip, policy=_IPS.format("remove"), body=RemoveFixedIp,
          action="removeFixedIp", until="2.43", success=202),
    Route(method="POST", path=_ACTION, handler=add_group, policy=_GROUPS.format("add"), body=Group,
          action="addSecurityGroup", success=202),
    Route(method="POST", path=_ACTION, handler=remove_group, policy=_GROUPS.format("remove"), body=Group,
          action="removeSecurityGroup", success=202),
    Route(method="GET", path=_OF_SERVER, handler=groups, policy=_GROUPS.format("list")),
)  # fmt: skip
RULES = (
    Rule(_P.format("list"), PROJECT_READER_OR_ADMIN, "List a server's ports", (("GET", _ALL),)),
    Rule(_P.format("create"), PROJECT_MEMBER_OR_ADMIN, "Attach a port to a server", (("POST", _ALL),)),
    Rule(_P.format("show"), PROJECT_READER_OR_ADMIN, "Show a server's port", (("GET", _ONE),)),
    Rule(_P.format("delete"), PROJECT_MEMBER_OR_ADMIN, "Detach a port from a server", (("DELETE", _ONE),)),
    Rule(_IPS.format("add"), PROJECT_MEMBER_OR_ADMIN, "Give a server one more address", (("POST", _ACTION),)),
    Rule(_IPS.format("remove"), PROJECT_MEMBER_OR_ADMIN, "Take an address from a server", (("POST", _ACTION),)),
    Rule(_GROUPS.format("add"), PROJECT_MEMBER_OR_ADMIN, "Put a server in a security group", (("POST", _ACTION),)),
    Rule(_GROUPS.format("remove"), PROJECT_MEMBER_OR_ADMIN, "Take a server out of a security group",
         (("POST", _ACTION),)),
    Rule(_GROUPS.format("list"), PROJECT_READER_OR_ADMIN, "List a server's security groups", (("GET", _OF_SERVER),)),
)  # fmt: skip
