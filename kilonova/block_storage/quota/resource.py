"""Quota sets and limits."""

from __future__ import annotations

from typing import Any

import msgspec

from kilonova.base.faults import forbidden, invalid
from kilonova.block_storage.core import BlockStorage
from kilonova.block_storage.quota import store
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.policy.personas import VOLUME_ADMIN_OR_READER
from kilonova.policy.rules import Rule


class QuotaBody(msgspec.Struct, forbid_unknown_fields=True):
    """{"quota_set": {resource: limit}}"""

    quota_set: dict[str, Any]


async def show(service: BlockStorage, request: Request[Any]) -> dict[str, Any]:
    project = request.path["project_id"]
    request.enforce({"project_id": project})
    limits = await service.db.read(store.limits, project, service.settings.quota)
    if not request.query.boolean("usage"):
        return {"quota_set": {"id": project, **limits}}
    used = await service.db.read(store.usage, project)
    shown = {name: {"limit": limit, "in_use": used.get(name, 0), "reserved": 0} for name, limit in limits.items()}
    return {"quota_set": {"id": project, **shown}}


async def defaults(service: BlockStorage, request: Request[Any]) -> dict[str, Any]:
    project = request.path["project_id"]
    request.enforce({"project_id": project})
    return {"quota_set": {"id": project, **await service.db.read(store.resources, service.settings.quota)}}


async def update(service: BlockStorage, request: Request[QuotaBody]) -> dict[str, Any]:
    project = request.path["project_id"]
    request.enforce({"project_id": project})
    known = await service.db.read(store.resources, service.settings.quota)
    values = {}
    for name, given in request.body.quota_set.items():
        if name in ("tenant_id", "id", "force", "skip_validation"):
            continue
        if name not in known:
            raise invalid(f"Bad key in quota set: {name[:60]}", hint=f"Known: {', '.join(sorted(known))}.")
        values[name] = _limit(name, given)
    await service.db.write(store.put, project, values)
    return {"quota_set": await service.db.read(store.limits, project, service.settings.quota)}


def _limit(name: str, given: Any) -> int:
    if isinstance(given, str) and given.removeprefix("-").isdigit() and given.isascii() and len(given) < 11:
        given = int(given)
    if not isinstance(given, int) or isinstance(given, bool) or not -1 <= given < 2**31:
        raise invalid(f"Invalid input for field quota_set.{name}: it must be a whole number from -1 to 2147483647.")
    return given


async def delete(service: BlockStorage, request: Request[Any]) -> None:
    request.enforce({"project_id": request.path["project_id"]})
    await service.db.write(store.drop, request.path["project_id"])


async def limits(service: BlockStorage, request: Request[Any]) -> dict[str, Any]:
    request.enforce()
    project = request.caller.project_id
    if (other := request.query.get("project_id")) and other != project and request.version >= (3, 39):
        if not request.allows("context_is_admin"):
            raise forbidden("Only an administrator may see the limits of another project.")
        project = other
    allowed = await service.db.read(store.limits, project, service.settings.quota)
    used = await service.db.read(store.usage, project)
    absolute = {
        "maxTotalVolumes": allowed["volumes"],
        "maxTotalVolumeGigabytes": allowed["gigabytes"],
        "maxTotalSnapshots": allowed["snapshots"],
        "maxTotalBackups": allowed["backups"],
        "maxTotalBackupGigabytes": allowed["backup_gigabytes"],
        "totalVolumesUsed": used["volumes"],
        "totalGigabytesUsed": used["gigabytes"],
        "totalSnapshotsUsed": used["snapshots"],
        "totalBackupsUsed": 0,
        "totalBackupGigabytesUsed": 0,
    }
    return {"limits": {"rate": [], "absolute": absolute}}


_P, _ONE = "volume_extension:quotas:{}", "/os-quota-sets/{project_id}"
RULES = (
    Rule(_P.format("show"), VOLUME_ADMIN_OR_READER, "See a project's quota.", (("GET", _ONE),)),
    Rule(_P.format("update"), "rule:admin_api", "Change a project's quota.", (("PUT", _ONE),)),
    Rule(_P.format("delete"), "rule:admin_api", "Give a project the default quota.", (("DELETE", _ONE),)),
    Rule(
        "limits_extension:used_limits", VOLUME_ADMIN_OR_READER, "See limits with what is used.", (("GET", "/limits"),)
    ),
)
ROUTES = (
    Route(method="GET", path=_ONE, handler=show, policy=_P.format("show")),
    Route(method="GET", path=_ONE + "/defaults", handler=defaults, policy=_P.format("show")),
    Route(method="PUT", path=_ONE, handler=update, policy=_P.format("update"), body=QuotaBody),
    Route(method="DELETE", path=_ONE, handler=delete, policy=_P.format("delete")),
    Route(method="GET", path="/limits", handler=limits, policy="limits_extension:used_limits"),
)
