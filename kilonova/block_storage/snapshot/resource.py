"""Snapshots: create, list, show, update, delete, and an administrator's actions. Shapes: Block Storage API v3."""

from __future__ import annotations

from typing import Any

import msgspec

from kilonova.base.faults import invalid
from kilonova.block_storage.contract import STILL_HEADER
from kilonova.block_storage.core import BlockStorage
from kilonova.block_storage.names import checked_flag, checked_metadata, checked_text
from kilonova.block_storage.snapshot import operation, store, view
from kilonova.block_storage.snapshot.store import Filters, Snapshot
from kilonova.block_storage.volume.resource import pairs_of, visible
from kilonova.http.listing import next_links, page_from
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.policy.personas import VOLUME_ADMIN_OR_MEMBER, VOLUME_ADMIN_OR_READER
from kilonova.policy.rules import Rule

ADMIN = "context_is_admin"
PAGING = {"limit", "marker", "offset", "sort", "sort_key", "sort_dir", "with_count", "all_tenants"}
FILTERS = {
    "id", "name", "display_name", "description", "status", "volume_id", "size", "user_id", "metadata", "consumes_quota",
    "availability_zone",
}  # fmt: skip
LIKE = ("name", "status", "volume_id", "description")
STATUSES = ("creating", "available", "deleting", "error", "error_deleting")


class NewSnapshot(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a create request."""

    volume_id: str
    name: Any = None
    description: Any = None
    display_name: Any = None
    display_description: Any = None
    force: Any = None
    metadata: dict[str, Any] | None = None


class SnapshotUpdate(msgspec.Struct, forbid_unknown_fields=True):
    """What of a snapshot its owner may change."""

    name: str | msgspec.UnsetType | None = msgspec.UNSET
    description: str | msgspec.UnsetType | None = msgspec.UNSET
    display_name: str | msgspec.UnsetType | None = msgspec.UNSET
    display_description: str | msgspec.UnsetType | None = msgspec.UNSET


class Status(msgspec.Struct, forbid_unknown_fields=True):
    """{"os-reset_status": {"status": …}}"""

    status: str


async def seen(service: BlockStorage, request: Request[Any], snapshot_id: str = "") -> Snapshot:
    """The snapshot of the path, or that one; another project's is NOT_FOUND to all but admins and services."""
    project = "" if request.allows(ADMIN) or request.caller.is_service else request.caller.project_id or "-"
    return await service.db.read(store.get, snapshot_id or request.path["snapshot_id"], project)


async def owned(service: BlockStorage, request: Request[Any]) -> Snapshot:
    """The snapshot of the path, when the route's rule lets the caller act on it."""
    snapshot = await seen(service, request)
    request.enforce(target(snapshot))
    return snapshot


def target(snapshot: Snapshot) -> dict[str, Any]:
    """What policy rules look at."""
    return {"project_id": snapshot.project_id, "user_id": snapshot.user_id}


async def create(service: BlockStorage, request: Request[NewSnapshot]) -> dict[str, Any]:
    body = request.body
    volume = await visible(service, request, body.volume_id)
    request.enforce({"project_id": volume.project_id, "user_id": volume.user_id})
    in_use = _may_be_in_use(request)
    snapshot = Snapshot(
        id=service.world.ids.uuid(),
        project_id=volume.project_id,
        user_id=request.caller.user_id,
        volume_id=volume.id,
        volume_type_id=volume.volume_type_id,
        host=volume.host,
        size_gib=volume.size_gib,
        created_at=service.world.clock.now(),
        name=checked_text(body.name if body.name is not None else body.display_name, "name"),
        description=checked_text(
            body.description if body.description is not None else body.display_description, "description"
        ),
        metadata=checked_metadata(body.metadata or {}),
    )
    row = service.operation(request, "create_snapshot", snapshot.id, {})
    snapshot.operation_id = row.id
    statuses = ("available", "in-use") if in_use else ("available",)
    still = request.caller.is_service and request.headers.get(STILL_HEADER.lower()) == "true"
    asked = operation.NewRow(snapshot, row, statuses, dict(service.settings.quota), request.idempotency_key, still)
    return {"snapshot": view.basic(request, await service.start(row, operation.begin_create, asked))}


def _may_be_in_use(request: Request[NewSnapshot]) -> bool:
    """`force` allowed a volume in use until 3.65; from 3.66 on it always may be, and `force` may only agree."""
    force = None if request.body.force is None else checked_flag(request.body.force, "force")
    if request.version < (3, 66):
        return bool(force)
    if force is False:
        raise invalid("Invalid input for field force: from 3.66 on it must be true, or left out.")
    return True


async def show(service: BlockStorage, request: Request[Any]) -> dict[str, Any]:
    return {"snapshot": view.detailed(request, await owned(service, request))}


async def update(service: BlockStorage, request: Request[SnapshotUpdate]) -> dict[str, Any]:
    snapshot, body = await owned(service, request), request.body
    values: dict[str, Any] = {}
    for field, given in (
        ("name", body.name if body.name is not msgspec.UNSET else body.display_name),
        ("description", body.description if body.description is not msgspec.UNSET else body.display_description),
    ):
        if given is not msgspec.UNSET:
            values[field] = checked_text(given, field)
    if not values:
        raise invalid("Invalid input for field snapshot: at least one of name, description is needed.")
    values["updated_at"] = service.world.clock.now()

    def change(connection: Any) -> Snapshot:
        store.change(connection, snapshot.id, values)
        return store.get(connection, snapshot.id)

    return {"snapshot": view.basic(request, await service.db.write(change))}


async def delete(service: BlockStorage, request: Request[Any]) -> None:
    await _delete(service, request, operation.DELETABLE)


async def force_delete(service: BlockStorage, request: Request[Any]) -> None:
    await _delete(service, request, ())


async def _delete(service: BlockStorage, request: Request[Any], statuses: tuple[str, ...]) -> None:
    snapshot = await owned(service, request)
    row = service.operation(request, "delete_snapshot", snapshot.id, {})
    await service.start(row, operation.begin_delete, row, statuses)


async def reset_status(service: BlockStorage, request: Request[Status]) -> None:
    snapshot, status = await owned(service, request), request.body.status.lower()
    if status not in STATUSES:
        raise invalid(f"Must specify a valid status: {status[:40]!r}.", hint=f"Known: {', '.join(STATUSES)}.")
    values = {"status": status, "updated_at": service.world.clock.now()}
    await service.db.write(store.change, snapshot.id, values)


# ── lists


async def list_summary(service: BlockStorage, request: Request[Any]) -> dict[str, Any]:
    return await _listed(service, request, view.summary)


async def list_detail(service: BlockStorage, request: Request[Any]) -> dict[str, Any]:
    return await _listed(service, request, view.detailed)


async def _listed(service: BlockStorage, request: Request[Any], shape: Any) -> dict[str, Any]:
    request.enforce()
    filters = _filters(request)
    page = page_from(request.query, sortable=set(store.SORTS), aliases={"display_name": "name"})
    found = await service.db.read(store.listed, filters, page, request.query.integer("offset") or 0)
    answer: dict[str, Any] = {"snapshots": [shape(request, one) for one in found]}
    answer |= next_links(request, "snapshots", found, page, lambda one: one.id)
    if request.version >= (3, 45) and request.query.boolean("with_count"):
        answer["count"] = await service.db.read(store.count, filters)
    return answer


def _filters(request: Request[Any]) -> Filters:
    """The filters of a query. Unknown ones are refused from 3.31 on, and ignored before."""
    is_admin = request.allows(ADMIN)
    everyone = is_admin and "all_tenants" in request.query and request.query.boolean("all_tenants")
    made = Filters("" if everyone else request.caller.project_id or "-")
    unknown = []
    for key, text in request.query.pairs:
        name = key.removesuffix("~")
        if key in PAGING:
            continue
        if name not in FILTERS and not (is_admin and name == "project_id"):
            unknown.append(key)
        elif key.endswith("~") and request.version >= (3, 31) and name in LIKE:
            made.like[name] = text
        else:
            _filter(made, request, name, text)
    if unknown and request.version >= (3, 31):
        raise invalid(f"Invalid filters {', '.join(sorted(unknown))} are found in query options.")
    return made


def _filter(made: Filters, request: Request[Any], name: str, text: str) -> None:
    if name == "metadata":
        made.metadata |= pairs_of(name, text)
    elif name == "consumes_quota":
        made.nothing = made.nothing or not request.query.boolean(name)
    elif name == "availability_zone":
        made.zone = text
    elif name == "size":
        made.equal[name] = request.query.integer(name)
    else:
        made.equal[name] = text


_ALL, _ONE = "/snapshots", "/snapshots/{snapshot_id}"
_ACTION = f"{_ONE}/action"
_ADMIN_ACTION = "volume_extension:snapshot_admin_actions:{}"
RULES = (
    Rule("volume:get_all_snapshots", VOLUME_ADMIN_OR_READER, "List snapshots.",
         (("GET", _ALL), ("GET", f"{_ALL}/detail"))),
    Rule("volume:create_snapshot", VOLUME_ADMIN_OR_MEMBER, "Create a snapshot.", (("POST", _ALL),)),
    Rule("volume:get_snapshot", VOLUME_ADMIN_OR_READER, "Show a snapshot.", (("GET", _ONE),)),
    Rule("volume:update_snapshot", VOLUME_ADMIN_OR_MEMBER, "Change a snapshot.", (("PUT", _ONE),)),
    Rule("volume:delete_snapshot", VOLUME_ADMIN_OR_MEMBER, "Delete a snapshot.", (("DELETE", _ONE),)),
    Rule(view.EXTENDED, VOLUME_ADMIN_OR_READER, "See a snapshot's project and progress."),
    Rule(_ADMIN_ACTION.format("reset_status"), "rule:admin_api", "Set a snapshot's status.", (("POST", _ACTION),)),
    Rule(_ADMIN_ACTION.format("force_delete"), "rule:admin_api", "Delete a snapshot in any status.",
         (("POST", _ACTION),)),
)  # fmt: skip
ROUTES = (
    Route(method="GET", path=_ALL, handler=list_summary, policy="volume:get_all_snapshots"),
    Route(method="GET", path=f"{_ALL}/detail", handler=list_detail, policy="volume:get_all_snapshots"),
    Route(method="POST", path=_ALL, handler=create, policy="volume:create_snapshot", body=NewSnapshot,
          envelope="snapshot", success=202),
    Route(method="GET", path=_ONE, handler=show, policy="volume:get_snapshot"),
    Route(method="PUT", path=_ONE, handler=update, policy="volume:update_snapshot", body=SnapshotUpdate,
          envelope="snapshot"),
    Route(method="DELETE", path=_ONE, handler=delete, policy="volume:delete_snapshot", success=202),
    Route(method="POST", path=_ACTION, handler=reset_status, policy=_ADMIN_ACTION.format("reset_status"),
          action="os-reset_status", body=Status, success=202),
    Route(method="POST", path=_ACTION, handler=force_delete, policy=_ADMIN_ACTION.format("force_delete"),
          action="os-force_delete", success=202),
)  # fmt: skip
