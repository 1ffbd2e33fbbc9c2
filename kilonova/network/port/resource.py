"""/v2.0/ports: make, list, show, change, delete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from kilonova.base.faults import conflict, forbidden, invalid
from kilonova.db.idempotency import earlier, forget, remember
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.network import door, schema
from kilonova.network.allocation_store import Ask
from kilonova.network.contract import ALONE, BESIDE_DEVICE, BESIDE_HEADER
from kilonova.network.network import store as networks
from kilonova.network.network.resource import target as network_target
from kilonova.network.port import beside, store
from kilonova.network.port import body as bodies
from kilonova.network.port.body import CreateBody, PortChange, PortWanted
from kilonova.network.port.store import Port
from kilonova.network.security_group import store as security_groups
from kilonova.network.work import Work
from kilonova.policy import personas

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from kilonova.network.core import NetworkService
    from kilonova.network.network.store import Network

Wanted = tuple[Port, list[Ask] | None, list[str] | None]  # a port, the addresses and the groups that it asks for

_BINDING = {
    "host": ("binding:host_id", ""),
    "vnic_type": ("binding:vnic_type", "normal"),
    "profile": ("binding:profile", None),
}
_GUARDED: dict[str, tuple[str, Any]] = {
    "mac_address": ("mac_address", UNSET),
    "fixed_ips": ("fixed_ips", UNSET),
    "address_pairs": ("allowed_address_pairs", []),
    "port_security": ("port_security_enabled", True),
    **_BINDING,
}


def target(port: Port) -> dict[str, Any]:
    """The port as policy rules look at it."""
    owner = {"network:tenant_id": port.network_project_id, "network_id": port.network_id}
    return door.target(port.project_id, device_owner=port.device_owner, **owner)


def _view(service: NetworkService, port: Port, *, binding: bool) -> dict[str, Any]:
    shown = {
        **door.standard(port),
        "network_id": port.network_id,
        "mac_address": port.mac,
        "admin_state_up": port.admin_state_up,
        "status": port.status,
        "device_id": port.device_id,
        "device_owner": port.device_owner,
        "fixed_ips": [{"subnet_id": held.subnet_id, "ip_address": held.address} for held in port.fixed_ips],
        "security_groups": port.security_groups,
        "allowed_address_pairs": [{"ip_address": ip, "mac_address": mac or port.mac} for ip, mac in port.address_pairs],
        "extra_dhcp_opts": [{"opt_name": n, "opt_value": v, "ip_version": ip} for n, v, ip in port.dhcp_options],
        "port_security_enabled": port.port_security,
        "binding:vnic_type": port.vnic_type,
        "dns_name": port.dns_name,
        "dns_assignment": _dns(service, port),
    }
    if binding:
        details = {"port_filter": True, "connectivity": "l2"} if port.vif_type == "bridge" else {}
        shown |= {
            "binding:host_id": port.host,
            "binding:profile": port.profile,
            "binding:vif_type": port.vif_type,
            "binding:vif_details": details,
        }
    return shown


def _dns(service: NetworkService, port: Port) -> list[dict[str, str]]:
    domain = service.settings.dns_domain
    made = []
    for held in port.fixed_ips:
        hostname = port.dns_name or "host-" + held.address.replace(".", "-").replace(":", "-")
        made.append({"ip_address": held.address, "hostname": hostname, "fqdn": f"{hostname}.{domain}."})
    return made


def _shows_binding(request: Request[Any]) -> bool:
    return request.allows("get_port:binding:host_id", door.ANYBODY)


async def index(service: NetworkService, request: Request[Any]) -> dict[str, Any]:
    """GET /ports"""
    wanted = door.wanted_from(request, store.LISTING, "get_port")
    if not (binding := _shows_binding(request)) and {"binding:host_id", "binding:vif_type"} & request.query.keys():
        raise forbidden("Only administrators may filter ports by host.", code="PolicyNotAuthorized")
    if request.caller.is_agent:
        here = ("binding:host_id", (request.caller.agent_host,))
        wanted = msgspec.structs.replace(wanted, filters=(*wanted.filters, here))
    rows = await service.db.read(store.list_ports, wanted)
    return door.answer_list(request, "ports", [_view(service, row, binding=binding) for row in rows], wanted)


async def seen(
    service: NetworkService,
    request: Request[Any],
    id_: str,
    find: Callable[[Connection, str], Port | None] = store.find_port,
) -> Port:
    """The port, when the caller may see it; `find` may leave out what nobody looks at."""
    port = await service.db.read(find, id_)
    if request.caller.is_agent and port is not None and port.host != request.caller.agent_host:
        port = None
    return door.seen(request, "get_port", port, target, store.no_port(id_))


async def show(service: NetworkService, request: Request[Any]) -> dict[str, Any]:
    """GET /ports/{id}"""
    port = await seen(service, request, request.path["id"])
    return {"port": door.chosen(request, _view(service, port, binding=_shows_binding(request)))}


async def create(service: NetworkService, request: Request[CreateBody]) -> dict[str, Any]:
    """POST /ports, one or many"""
    wanted, bulk = door.singles(request.body, "port", "ports")
    near: list[Network] = []
    rows = [await _new(service, request, one, near) for one in wanted]
    scope = None if request.allows("admin_only") else request.caller.project_id
    key = ("" if bulk else request.idempotency_key, request.caller.user_id)
    made, around = await service.change(_create, rows, scope, key, near if beside.is_asked_for(request) else [])
    binding = _shows_binding(request)
    shown = [_view(service, row, binding=binding) for row in made]
    answer = {"ports": shown} if bulk else {"port": shown[0]}
    return answer | beside.shown(request, around) if around else answer


def _create(
    work: Work, rows: list[Wanted], scope: str | None, key: tuple[str, str], near: list[Network]
) -> tuple[list[Port], beside.Around | None]:
    """INSERT ports, unless a request with this key made one before; and what is around them, if they are `near` it."""
    ports = _made_before(work, key) or _insert(work, rows, scope, key)
    return ports, beside.around(work.connection, near, ports) if near else None


def _made_before(work: Work, key: tuple[str, str]) -> list[Port]:
    if (id_ := earlier(work.connection, schema.idempotency, *key)) is None:
        return []
    if (found := store.find_port(work.connection, id_)) is not None:
        return [found]
    forget(work.connection, schema.idempotency, *key)  # it was undone since: the request is new again
    return []


def _insert(work: Work, rows: list[Wanted], scope: str | None, key: tuple[str, str]) -> list[Port]:
    for _, _, groups in rows:
        security_groups.check_usable(work.connection, groups or [], scope)
    made = store.create_ports(work, rows)
    remember(work.connection, schema.idempotency, *key, made[0].id, work.draw.now())
    return made


async def _new(service: NetworkService, request: Request[Any], body: PortWanted, near: list[Network]) -> Wanted:
    """What the body asks for, when the caller may have it. Its network is then one of those `near`."""
    _bind_here_only(request, body)
    project_id = door.project_of(request, body)
    network = await service.db.read(networks.usable_network, body.network_id)
    door.see(request, "get_network", network_target(network), networks.no_network(body.network_id))
    of = _creation_target(project_id, network)
    door.guard(request, "create_port", body, _GUARDED, of)
    if body.device_owner.startswith("network:"):
        request.enforce(of, "create_port:device_owner")
    _guard_addresses(request, "create_port", body, of)
    near.append(network)
    now = service.draw.now()
    port = Port(
        id=service.draw.id(), project_id=project_id, created_at=now, updated_at=now, network_id=network.id,
        network_project_id=network.project_id, port_security=network.port_security,
    )  # fmt: skip
    for name, value in bodies.values(service.settings, body).items():
        setattr(port, name, value)
    groups = None if body.security_groups is UNSET else body.security_groups or []
    if port.device_owner.startswith("network:"):
        port.port_security = body.port_security is True
        groups = groups or []
    _check_security(port, groups)
    return port, bodies.asks(body.fixed_ips), groups


def _bind_here_only(request: Request[Any], body: PortChange) -> None:
    """A host's agents bind ports to their host, for a user or in their own name; alone they change nothing else."""
    here = request.caller.agent_host
    if here and body.host not in (UNSET, "", here):
        raise forbidden("A host may bind ports to itself only.", code="NotYourHost")
    if request.caller.is_agent and set(_changed(body)) - {"host", "device_id", "device_owner"}:
        raise forbidden("A host's agents may only bind and free ports.", code="NotForAgents")


def _changed(body: msgspec.Struct) -> list[str]:
    return [name for name in body.__struct_fields__ if getattr(body, name) is not UNSET]


def _creation_target(project_id: str, network: Network) -> dict[str, Any]:
    shared = {"shared": network.shared, "network:tenant_id": network.project_id, "network_id": network.id}
    return door.target(project_id, **shared)


def _guard_addresses(request: Request[Any], rule: str, body: PortChange, of: dict[str, Any]) -> None:
    if not isinstance(body.fixed_ips, list):
        return
    if any(one.ip_address for one in body.fixed_ips):
        request.enforce(of, f"{rule}:fixed_ips:ip_address")
    if any(one.subnet_id for one in body.fixed_ips):
        request.enforce(of, f"{rule}:fixed_ips:subnet_id")


def _check_security(port: Port, groups: list[str] | None) -> None:
    if not port.port_security and groups:
        raise conflict(
            "Port Security must be enabled and port must have an IP address in order to use Security Groups.",
            code="PortSecurityAndIPRequiredForSecurityGroups",
        )
    if not port.port_security and port.address_pairs:
        raise conflict("Port Security must be enabled in order to have allowed address pairs on a port.",
                       code="AddressPairAndPortSecurityRequired")  # fmt: skip


async def update(service: NetworkService, request: Request[PortChange]) -> dict[str, Any]:
    """PUT /ports/{id}"""
    port = await seen(service, request, request.path["id"])
    body, of = request.body, target(port)
    _bind_here_only(request, body)
    guarded = {name: (attribute, UNSET) for name, (attribute, _) in _GUARDED.items() if name != "address_pairs"}
    door.guard(request, "update_port", body, guarded, of)
    if body.address_pairs is not UNSET:
        request.enforce(of, "update_port:allowed_address_pairs")
    if body.device_owner is not UNSET and body.device_owner.startswith("network:"):
        request.enforce(of, "update_port:device_owner")
    _guard_addresses(request, "update_port", body, of)
    values = bodies.values(service.settings, body)
    groups = None if body.security_groups is UNSET else body.security_groups or []
    _check_update(port, values, groups)
    scope = None if request.allows("admin_only") else request.caller.project_id
    changed = await service.change(_update, port.id, values, bodies.asks(body.fixed_ips), groups, scope)
    return {"port": _view(service, changed, binding=_shows_binding(request))}


def _check_update(port: Port, values: dict[str, Any], groups: list[str] | None) -> None:
    owner = str(values.get("device_owner", port.device_owner))
    if port.device_owner.startswith("network:router") and owner != port.device_owner:
        raise invalid(f"Device owner of router port {port.id} cannot be changed.", code="HTTPBadRequest")
    after = values.get("port_security", port.port_security)
    kept = port.security_groups if groups is None else groups
    pairs = values.get("address_pairs", port.address_pairs)
    _check_security(Port(**_stamps(port), network_id=port.network_id, port_security=after, address_pairs=pairs), kept)


def _stamps(port: Port) -> dict[str, Any]:
    return {name: getattr(port, name) for name in ("id", "project_id", "created_at", "updated_at")}


def _update(
    work: Work,
    id_: str,
    values: dict[str, Any],
    asked: list[Ask] | None,
    groups: list[str] | None,
    scope: str | None,
) -> Port:
    """UPDATE ports, with addresses and groups."""
    security_groups.check_usable(work.connection, groups or [], scope)
    return store.update_port(work, id_, values, asked, groups)


async def delete(service: NetworkService, request: Request[Any]) -> Answer:
    """DELETE /ports/{id}. Compute hears of a server's port that is gone, unless a service let go of it: that knows."""
    port = await seen(service, request, request.path["id"], store.find_owned)
    request.enforce(target(port))
    by_service = request.caller.is_service
    asked = by_service and request.headers.get(BESIDE_HEADER) == BESIDE_DEVICE
    alone = await service.change(_delete, port, by_service, asked)
    return Answer(headers={BESIDE_HEADER: ALONE} if alone else {})


def _delete(work: Work, port: Port, by_service: bool, asked: bool) -> bool:
    """DELETE ports; whether, when it was asked, the port's device has no other."""
    store.delete_port(work, port.id, news=not by_service)
    return asked and bool(port.device_id) and not store.has_ports(work.connection, port.device_id)


_MEMBER = personas.ADMIN_OR_PROJECT_MEMBER
_OWNER = personas.ADMIN_OR_NETWORK_OWNER_MEMBER
_ADVANCED = "rule:context_is_advsvc"
_SERVICE = f"{personas.ADMIN_OR_SERVICE} or service_roles:service"
_NETWORKS_OWN = f"{_ADVANCED} or {_OWNER} or {_SERVICE}"
_WRITES = {
    "device_owner": _NETWORKS_OWN,
    "mac_address": _NETWORKS_OWN,
    "fixed_ips:ip_address": _NETWORKS_OWN,
    "allowed_address_pairs": _OWNER,
    "port_security_enabled": _NETWORKS_OWN,
    "binding:host_id": _SERVICE,
    "binding:profile": _SERVICE,
    "binding:vnic_type": f"{_MEMBER} or {_SERVICE}",
}
RULES = door.rules(
    {
        "create_port": f"{_MEMBER} or {_SERVICE}",
        "get_port": f"{_ADVANCED} or {personas.ADMIN_OR_PROJECT_READER} or "
        f"({personas.ADMIN_OR_NETWORK_OWNER_READER}) or {_SERVICE}",
        "update_port": f"{_MEMBER} or {_ADVANCED} or {_SERVICE}",
        "delete_port": f"{_ADVANCED} or {_MEMBER} or ({_OWNER}) or {_SERVICE}",
        **door.each(["create_port", "update_port"], _WRITES),
        "create_port:fixed_ips": f"{_NETWORKS_OWN} or rule:shared",
        "create_port:fixed_ips:subnet_id": f"{_NETWORKS_OWN} or rule:shared",
        "update_port:fixed_ips": f"{_NETWORKS_OWN} or {_MEMBER}",
        "update_port:fixed_ips:subnet_id": f"{_NETWORKS_OWN} or {_MEMBER}",
        **door.each(
            ["get_port"],
            dict.fromkeys(("binding:host_id", "binding:profile", "binding:vif_type"), _SERVICE),
        ),
    },
    about="ports",
)
_ONE = "/v2.0/ports/{id}"
ROUTES = (
    Route(method="GET", path="/v2.0/ports", handler=index, policy="get_port", agents=True),
    Route(method="POST", path="/v2.0/ports", handler=create, policy="create_port", body=CreateBody, success=201),
    Route(method="GET", path=_ONE, handler=show, policy="get_port", agents=True),
    Route(method="PUT", path=_ONE, handler=update, policy="update_port", body=PortChange, envelope="port", agents=True),
    Route(method="DELETE", path=_ONE, handler=delete, policy="delete_port", success=204, agents=True),
)
