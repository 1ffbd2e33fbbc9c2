"""Attachments: create (reserve), update (connect), complete, show, list, delete. Since 3.27."""

from __future__ import annotations

import logging
from typing import Annotated, Any

import msgspec

from kilonova.base.clock import iso_micros
from kilonova.base.faults import Fault, Kind, conflict, forbidden, invalid
from kilonova.base.ids import is_uuid
from kilonova.block_storage.attachment import steps, store
from kilonova.block_storage.attachment.store import Attachment, Filters
from kilonova.block_storage.contract import Connector
from kilonova.block_storage.core import BlockStorage
from kilonova.block_storage.volume import store as volume_store
from kilonova.block_storage.volume.resource import target, visible
from kilonova.http.listing import next_links, page_from
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.http.schema import since
from kilonova.policy.personas import VOLUME_ADMIN_OR_MEMBER, VOLUME_ADMIN_OR_READER
from kilonova.policy.rules import Rule

log = logging.getLogger(__name__)

ADMIN = "context_is_admin"
FILTERS = {"volume_id": "volume_id", "instance_id": "instance_id", "status": "status", "attach_status": "status",
           "id": "id"}  # fmt: skip


class NewAttachment(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a create request."""

    volume_uuid: str
    instance_uuid: str | None = None
    connector: dict[str, Any] | None = None
    mode: Annotated[str | None, since("3.54")] = None


class AttachmentUpdate(msgspec.Struct, forbid_unknown_fields=True):
    """The host's connector."""

    connector: dict[str, Any]


def summary(one: Attachment) -> dict[str, Any]:
    """An attachment in the short list."""
    return {"id": one.id, "status": one.status, "instance": one.instance_id or None, "volume_id": one.volume_id}


def detailed(one: Attachment) -> dict[str, Any]:
    """An attachment with all that is known."""
    return summary(one) | {
        "attached_at": iso_micros(one.attached_at) if one.attached_at else "",
        "detached_at": "",
        "attach_mode": one.mode,
        "connection_info": one.connection or {},
    }


async def seen(service: BlockStorage, request: Request[Any]) -> Attachment:
    """The attachment of the path, if the caller may know of it."""
    one = await service.db.read(store.get, request.path["attachment_id"])
    if not (request.allows(ADMIN) or request.caller.is_service) and one.project_id != request.caller.project_id:
        raise _unknown(one)
    if request.caller.is_agent and one.host not in ("", request.caller.agent_host):
        raise _unknown(one)
    return one


def _unknown(one: Attachment) -> Fault:
    return Fault(Kind.NOT_FOUND, f"Volume attachment {one.id} could not be found.")


def connect_here_only(request: Request[Any], connector: dict[str, Any] | None) -> None:
    """A host's agents connect volumes to their host, for a user or in their own name."""
    here = request.caller.agent_host
    if here and connector and connector.get("host") != here:
        raise forbidden("A host may attach volumes to itself only.", code="NotYourHost")


def _about(one: Attachment) -> dict[str, Any]:
    return {"project_id": one.project_id, "user_id": ""}


async def create(service: BlockStorage, request: Request[NewAttachment]) -> dict[str, Any]:
    body = request.body
    for name, given in (("volume_uuid", body.volume_uuid), ("instance_uuid", body.instance_uuid)):
        if given and not is_uuid(given):
            raise invalid(f"Invalid input for field {name}: {given[:60]!r} is not a UUID.")
    if body.mode not in (None, "rw", "ro"):
        raise invalid("Invalid input for field mode: it must be rw or ro.")
    connect_here_only(request, body.connector)
    volume = await visible(service, request, body.volume_uuid)
    request.enforce(target(volume))
    one = Attachment(
        id=service.world.ids.uuid(),
        volume_id=volume.id,
        project_id=volume.project_id,
        created_at=service.world.clock.now(),
        instance_id=body.instance_uuid or "",
        mode=body.mode or ("ro" if volume.readonly else "rw"),
    )
    made = await service.db.write(steps.reserve, one, request.idempotency_key, request.caller.user_id)
    if body.connector:
        try:
            made = await connect(service, made, body.connector)
        except Fault:
            await service.db.write(steps.remove, made.id, service.world.clock.now())
            raise
    return {"attachment": detailed(made)}


async def connect(service: BlockStorage, one: Attachment, connector: dict[str, Any]) -> Attachment:
    """The attachment with connection data for the connector's host. Repeats are harmless."""
    if not isinstance(connector.get("host"), str) or not connector["host"]:
        raise invalid("Invalid input for field connector: it has no host.")
    asked = typed(connector)
    now = service.world.clock.now()
    one = await service.db.write(steps.connecting, one.id, connector, now)
    volume = await service.db.read(volume_store.get, one.volume_id)
    agent = service.agent(volume.host)
    try:
        found = await agent.initialize_connection(volume.id, asked)
    except Fault as fault:
        if fault.kind is Kind.UNAVAILABLE and await service.db.read(store.is_gone, one.id):
            await _disconnect_late(service, one, volume.host)  # it may have been done all the same
        raise
    data = dict(found.data) | {
        "driver_volume_type": found.driver_volume_type,
        "attachment_id": one.id,
        "access_mode": one.mode,
        "encrypted": False,
        "qos_specs": None,
        "discard": False,
        "cacheable": False,
        "volume_id": volume.id,
    }
    try:
        return await service.db.write(steps.connected, one.id, data)
    except Fault as fault:
        if fault.kind is Kind.NOT_FOUND:  # deleted meanwhile: its detach may have come before our connection
            await _disconnect_late(service, one, volume.host)
        raise


async def _disconnect_late(service: BlockStorage, one: Attachment, backend: str) -> None:
    """Undo the connection of an attachment that is gone; what the host has by another attachment stays. An agent that
    does not answer undoes it when it next asks which of its connections nobody wants."""
    try:
        if not await service.db.read(steps.others_on_host, one):
            await service.agent(backend).terminate_connection(one.volume_id, typed(one.connector))
    except Fault as fault:
        if fault.kind is not Kind.UNAVAILABLE:
            raise
        log.warning("volume %s stays connected to %s for now: %r", one.volume_id, one.host, fault)


def typed(connector: dict[str, Any]) -> Connector:
    """The parts of a connector that backends look at."""
    return Connector(
        host=str(connector["host"])[:255],
        ip=str(connector.get("ip") or ""),
        initiator=str(connector.get("initiator") or ""),
        multipath=connector.get("multipath") is True,
        mountpoint=str(connector.get("mountpoint") or ""),
    )


async def update(service: BlockStorage, request: Request[AttachmentUpdate]) -> dict[str, Any]:
    one = await seen(service, request)
    request.enforce(_about(one))
    connect_here_only(request, request.body.connector)
    if request.caller.is_agent and not one.host:  # alone it connects again what it had, after a restart
        raise _unknown(one)
    return {"attachment": detailed(await connect(service, one, request.body.connector))}


async def complete(service: BlockStorage, request: Request[Any]) -> None:
    one = await seen(service, request)
    request.enforce(_about(one))
    await service.db.write(steps.complete, one.id, service.world.clock.now())


async def delete(service: BlockStorage, request: Request[Any]) -> dict[str, Any]:
    one = await seen(service, request)
    request.enforce(_about(one))
    require_not_in_a_server(request, one)
    return {"attachments": [summary(rest) for rest in await disconnect(service, one)]}


def require_not_in_a_server(request: Request[Any], one: Attachment) -> None:
    """A guest's disk is taken away through compute only, which takes it out of the guest first (CVE-2023-2088)."""
    if one.instance_id and one.status != "reserved" and not request.caller.is_service:
        raise conflict(
            f"Detach volume from instance {one.instance_id} using the Compute API.",
            hint="Run `openstack server remove volume`.",
            code="ConflictNovaUsingAttachment",
        )


async def disconnect(service: BlockStorage, one: Attachment) -> list[Attachment]:
    """Disconnect the host, then forget the attachment; answers those that the volume still has."""
    if one.host and not await service.db.read(steps.others_on_host, one):
        volume = await service.db.read(volume_store.get, one.volume_id)
        await service.agent(volume.host).terminate_connection(volume.id, typed(one.connector))
    return await service.db.write(steps.remove, one.id, service.world.clock.now())


async def show(service: BlockStorage, request: Request[Any]) -> dict[str, Any]:
    one = await seen(service, request)
    request.enforce(_about(one))
    return {"attachment": detailed(one)}


async def list_summary(service: BlockStorage, request: Request[Any]) -> dict[str, Any]:
    return await _listed(service, request, summary)


async def list_detail(service: BlockStorage, request: Request[Any]) -> dict[str, Any]:
    return await _listed(service, request, detailed)


async def _listed(service: BlockStorage, request: Request[Any], shape: Any) -> dict[str, Any]:
    request.enforce()
    trusted = request.allows(ADMIN) or request.caller.is_service
    everyone = trusted and "all_tenants" in request.query and request.query.boolean("all_tenants")
    filters = Filters("" if everyone else request.caller.project_id or "-")
    for name, text in request.query.pairs:
        if name in FILTERS:
            filters.equal[FILTERS[name]] = text
    page = page_from(request.query, sortable=set(store.SORTS))
    found = await service.db.read(store.listed, filters, page)
    answer = {"attachments": [shape(one) for one in found]}
    return answer | next_links(request, "attachments", found, page, lambda one: one.id)


_P, _ONE = "volume:attachment_{}", "/attachments/{attachment_id}"
# Compute works for servers whose user's token is gone: with the service role, on attachments.
_MEMBER, _READER = f"{VOLUME_ADMIN_OR_MEMBER} or role:service", f"{VOLUME_ADMIN_OR_READER} or role:service"
RULES = (
    Rule(_P.format("create"), _MEMBER, "Attach a volume.", (("POST", "/attachments"),)),
    Rule(_P.format("update"), _MEMBER, "Connect an attachment.", (("PUT", _ONE),)),
    Rule(_P.format("delete"), _MEMBER, "Delete an attachment.", (("DELETE", _ONE),)),
    Rule(_P.format("complete"), _MEMBER, "Complete an attachment.", (("POST", f"{_ONE}/action"),)),
    Rule(_P.format("get"), _READER, "See attachments.", (("GET", "/attachments"), ("GET", _ONE))),
)
ROUTES = (
    Route(
        method="POST", path="/attachments", handler=create, policy=_P.format("create"), body=NewAttachment,
        envelope="attachment", since="3.27",
    ),
    Route(method="GET", path="/attachments", handler=list_summary, policy=_P.format("get"), since="3.27"),
    Route(method="GET", path="/attachments/detail", handler=list_detail, policy=_P.format("get"), since="3.27"),
    Route(method="GET", path=_ONE, handler=show, policy=_P.format("get"), since="3.27", agents=True),
    Route(
        method="PUT", path=_ONE, handler=update, policy=_P.format("update"), body=AttachmentUpdate,
        envelope="attachment", since="3.27", agents=True,
    ),
    Route(method="DELETE", path=_ONE, handler=delete, policy=_P.format("delete"), since="3.27", agents=True),
    Route(
        method="POST", path=f"{_ONE}/action", handler=complete, policy=_P.format("complete"), action="os-complete",
        success=204, since="3.44", agents=True,
    ),
)  # fmt: skip
