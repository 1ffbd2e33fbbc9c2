"""Volumes: list, show, update, delete, summary. Shapes: Block Storage API v3 reference."""

from __future__ import annotations

import ast
from datetime import datetime
from typing import Any

import msgspec

from kilonova.base.faults import invalid, not_found
from kilonova.block_storage.core import BlockStorage
from kilonova.block_storage.names import checked_metadata, checked_text
from kilonova.block_storage.volume import delete as deletion
from kilonova.block_storage.volume import store, view
from kilonova.block_storage.volume.store import Filters, Volume
from kilonova.block_storage.volume_type import store as type_store
from kilonova.http.listing import next_links, page_from
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.policy.personas import VOLUME_ADMIN_OR_MEMBER, VOLUME_ADMIN_OR_READER
from kilonova.policy.rules import Rule

PAGING = {"limit", "marker", "offset", "sort", "sort_key", "sort_dir", "with_count", "all_tenants"}
USER_FILTERS = {
    "name", "status", "metadata", "bootable", "migration_status", "availability_zone", "group_id", "size",
    "created_at", "updated_at", "glance_metadata", "consumes_quota", "display_name", "volume_type_id", "multiattach",
    "id", "source_volid", "description", "user_id",
}  # fmt: skip
ADMIN_FILTERS = {"host", "project_id"}
NOTHING_HAS = {"migration_status", "group_id"}


class VolumeUpdate(msgspec.Struct):
    """What of a volume its owner may change. `display_*` are the older names of the same."""

    name: str | msgspec.UnsetType | None = msgspec.UNSET
    description: str | msgspec.UnsetType | None = msgspec.UNSET
    display_name: str | msgspec.UnsetType | None = msgspec.UNSET
    display_description: str | msgspec.UnsetType | None = msgspec.UNSET
    metadata: dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET


async def seen(service: BlockStorage, request: Request[Any]) -> Volume:
    """The volume of the path, if the caller may know of it."""
    return await visible(service, request, request.path["volume_id"])


async def visible(service: BlockStorage, request: Request[Any], volume_id: str) -> Volume:
    """The volume; another project's is NOT_FOUND to all but admins and services."""
    project = "" if request.allows(view.ADMIN) or request.caller.is_service else request.caller.project_id or "-"
    return await service.db.read(store.get, volume_id, project)


def target(volume: Volume) -> dict[str, Any]:
    """What policy rules look at."""
    return {"project_id": volume.project_id, "user_id": volume.user_id}


async def show(service: BlockStorage, request: Request[Any]) -> dict[str, Any]:
    volume = await seen(service, request)
    if request.caller.is_agent and request.caller.agent_host not in {one.host for one in volume.attachments}:
        raise not_found("Volume", volume.id)
    request.enforce(target(volume))
    return {"volume": view.detailed(request, volume)}


async def update(service: BlockStorage, request: Request[VolumeUpdate]) -> dict[str, Any]:
    volume = await seen(service, request)
    request.enforce(target(volume))
    body = request.body
    values: dict[str, Any] = {}
    for field, given in (
        ("name", body.name if body.name is not msgspec.UNSET else body.display_name),
        ("description", body.description if body.description is not msgspec.UNSET else body.display_description),
    ):
        if given is not msgspec.UNSET:
            values[field] = checked_text(given, field)
    if not values and body.metadata is msgspec.UNSET:
        raise invalid("Invalid input for field volume: at least one of name, description, metadata is needed.")
    wanted = None if body.metadata in (msgspec.UNSET, None) else checked_metadata(body.metadata)
    values["updated_at"] = service.world.clock.now()

    def change(connection: Any) -> Volume:
        store.change(connection, volume.id, values)
        if wanted is not None:
            store.replace_metadata(connection, volume.id, "volume", wanted)
        return store.get(connection, volume.id)

    return {"volume": view.basic(request, await service.db.write(change))}


async def delete(service: BlockStorage, request: Request[Any]) -> None:
    volume = await seen(service, request)
    request.enforce(target(volume))
    force = request.query.boolean("force") if request.version >= (3, 23) else None
    if force:
        request.enforce(target(volume), "volume:force_delete")
    await begin_delete(service, request, volume, force=bool(force), cascade=bool(request.query.boolean("cascade")))


async def begin_delete(
    service: BlockStorage, request: Request[Any], volume: Volume, *, force: bool, cascade: bool = False
) -> None:
    """Record and announce the deletion; `force` takes the volume from whatever is being done to it, `cascade` deletes
    its snapshots too."""
    row = service.operation(request, "delete", volume.id, {"volume_id": volume.id, "over": ""})
    await service.start(row, deletion.begin, row, () if force else deletion.DELETABLE, cascade)


# ── lists


async def list_summary(service: BlockStorage, request: Request[Any]) -> dict[str, Any]:
    return await _listed(service, request, view.summary)


async def list_detail(service: BlockStorage, request: Request[Any]) -> dict[str, Any]:
    return await _listed(service, request, view.detailed)


async def _listed(service: BlockStorage, request: Request[Any], shape: Any) -> dict[str, Any]:
    request.enforce()
    filters = filters_from(request)
    page = page_from(request.query, sortable=set(store.SORTS), aliases={"display_name": "name"})
    offset = request.query.integer("offset") or 0
    found = await service.db.read(store.listed, filters, page, offset)
    answer: dict[str, Any] = {"volumes": [shape(request, one) for one in found]}
    answer |= next_links(request, "volumes", found, page, lambda one: one.id)
    if request.version >= (3, 45) and request.query.boolean("with_count"):
        answer["count"] = await service.db.read(store.count, filters)
    return answer


async def summed(service: BlockStorage, request: Request[Any]) -> dict[str, Any]:
    request.enforce()
    number, size, values = await service.db.read(store.summed, filters_from(request))
    answer: dict[str, Any] = {"total_size": size, "total_count": number}
    if request.version >= (3, 36):
        answer["metadata"] = values
    return {"volume-summary": answer}


def filters_from(request: Request[Any]) -> Filters:
    """The filters of a query. Unknown ones are refused from 3.31 on, and ignored before."""
    is_admin = request.allows(view.ADMIN)
    everyone = is_admin and "all_tenants" in request.query and request.query.boolean("all_tenants")
    made = Filters("" if everyone else request.caller.project_id or "-")
    unknown = []
    for key, text in request.query.pairs:
        name, tilde = key.removesuffix("~"), key.endswith("~")
        if key in PAGING:
            continue
        if name in USER_FILTERS or (is_admin and name in ADMIN_FILTERS):
            if tilde and request.version >= (3, 31) and name in ("name", "status", "description", "availability_zone"):
                made.like[name] = text
            else:
                _filter(made, request, name, text)
        else:
            unknown.append(key)
    if unknown and request.version >= (3, 31):
        raise invalid(f"Invalid filters {', '.join(sorted(unknown))} are found in query options.")
    return made


def _filter(made: Filters, request: Request[Any], name: str, text: str) -> None:
    if name in ("metadata", "glance_metadata"):
        (made.metadata if name == "metadata" else made.image_metadata).update(pairs_of(name, text))
    elif name in NOTHING_HAS or (name == "consumes_quota" and not request.query.boolean(name)):
        made.nothing = made.nothing or text not in ("", "None", "none")
    elif name in ("created_at", "updated_at"):
        for part in text.split(","):
            made.times.append((name, *_moment(name, part)))
    elif name in ("bootable", "multiattach"):
        made.equal[name] = request.query.boolean(name)
    elif name == "size":
        made.equal[name] = request.query.integer(name)
    elif name != "consumes_quota":
        made.equal[name] = text


def pairs_of(name: str, text: str) -> dict[str, str]:
    """{'key': 'value'} as clients write it: a Python or JSON dictionary."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise invalid(f"Invalid input for query parameter {name}: it must be a dictionary.")
    return {str(key): str(one) for key, one in value.items()}


def _moment(name: str, text: str) -> tuple[str, datetime]:
    operator, colon, rest = text.partition(":")
    if not colon or operator not in ("gt", "gte", "eq", "neq", "lt", "lte"):
        operator, rest = "eq", text
    try:
        return operator, msgspec.convert(rest if rest.endswith("Z") or "+" in rest else f"{rest}Z", datetime)
    except msgspec.ValidationError:
        raise invalid(f"Invalid time in {name}: {text[:60]!r}.", hint="For example gt:2026-11-20T12:00:00.") from None


async def type_seen(service: BlockStorage, request: Request[Any], name_or_id: str) -> type_store.VolumeType:
    """The volume type of that name or id, if the caller's project may use it."""
    project = "" if request.allows(view.ADMIN) else request.caller.project_id or "-"
    return await service.db.read(type_store.find, name_or_id, project)


_MEMBER, _READER, _ADMIN = VOLUME_ADMIN_OR_MEMBER, VOLUME_ADMIN_OR_READER, "rule:admin_api"
RULES = (
    Rule("volume:get", f"{_READER} or role:service", "Show a volume.", (("GET", "/volumes/{volume_id}"),)),
    Rule("volume:get_all", _READER, "List volumes.", (("GET", "/volumes"), ("GET", "/volumes/detail"))),
    Rule("volume:update", _MEMBER, "Change a volume.", (("PUT", "/volumes/{volume_id}"),)),
    Rule("volume:delete", f"{_MEMBER} or role:service", "Delete a volume.", (("DELETE", "/volumes/{volume_id}"),)),
    Rule("volume:force_delete", _ADMIN, "Delete a volume in any state.", (("DELETE", "/volumes/{volume_id}"),)),
    Rule("volume_extension:volume_host_attribute", _ADMIN, "See a volume's host."),
    Rule("volume_extension:volume_tenant_attribute", _READER, "See a volume's project."),
    Rule("volume_extension:volume_mig_status_attribute", _ADMIN, "See a volume's migration status."),
)
ROUTES = (
    Route(method="GET", path="/volumes", handler=list_summary, policy="volume:get_all"),
    Route(method="GET", path="/volumes/detail", handler=list_detail, policy="volume:get_all"),
    Route(method="GET", path="/volumes/summary", handler=summed, policy="volume:get_all", since="3.12"),
    Route(method="GET", path="/volumes/{volume_id}", handler=show, policy="volume:get", agents=True),
    Route(
        method="PUT", path="/volumes/{volume_id}", handler=update, policy="volume:update",
        body=VolumeUpdate, envelope="volume",
    ),
    Route(method="DELETE", path="/volumes/{volume_id}", handler=delete, policy="volume:delete", success=202),
)  # fmt: skip
