"""How a volume shows, at each microversion and to each caller."""

from __future__ import annotations

from typing import Any

from kilonova.base.clock import iso_micros
from kilonova.block_storage.attachment.store import Attachment
from kilonova.block_storage.paths import prefix
from kilonova.block_storage.volume.store import Volume
from kilonova.http.fields import Field, View
from kilonova.http.request import Request

ADMIN = "context_is_admin"

BASIC: View[Volume] = View(
    Field("id", lambda v: v.id),
    Field("status", lambda v: v.status),
    Field("size", lambda v: v.size_gib),
    Field("availability_zone", lambda v: v.availability_zone),
    Field("created_at", lambda v: iso_micros(v.created_at)),
    Field("updated_at", lambda v: iso_micros(v.updated_at) if v.updated_at else None),
    Field("name", lambda v: v.name),
    Field("description", lambda v: v.description),
    Field("volume_type", lambda v: v.volume_type or None),
    Field("snapshot_id", lambda v: v.snapshot_id or None),
    Field("source_volid", lambda v: v.source_volume_id or None),
    Field("metadata", lambda v: dict(v.metadata)),
    Field("user_id", lambda v: v.user_id),
    Field("bootable", lambda v: "true" if v.bootable else "false"),
    Field("encrypted", lambda v: False),
    Field("replication_status", lambda v: None),
    Field("consistencygroup_id", lambda v: None),
    Field("multiattach", lambda v: v.multiattach),
    Field("migration_status", lambda v: None),
    Field("group_id", lambda v: None, since="3.13"),
    Field("service_uuid", lambda v: None, since="3.48"),
    Field("shared_targets", lambda v: False, since="3.48"),
    Field("volume_type_id", lambda v: v.volume_type_id, since="3.63"),
    Field("consumes_quota", lambda v: True, since="3.65"),
)
FOR_ADMINS: View[Volume] = View(
    Field("provider_id", lambda v: None, since="3.21"),
    Field("cluster_name", lambda v: None, since="3.61"),
)


def basic(request: Request[Any], volume: Volume) -> dict[str, Any]:
    """A volume as create and update answer it."""
    is_admin = request.allows(ADMIN)
    made = BASIC.show(request.version, volume)
    made["links"] = links(request, volume.id)
    made["attachments"] = [_attached(one, is_admin) for one in volume.attachments if one.status == "attached"]
    if is_admin:
        made |= FOR_ADMINS.show(request.version, volume)
    return made


def detailed(request: Request[Any], volume: Volume) -> dict[str, Any]:
    """A volume as show and the detailed list answer it: what the caller may not see is left out."""
    target = {"project_id": volume.project_id}
    made = basic(request, volume)
    if request.allows("volume_extension:volume_host_attribute", target):
        made["os-vol-host-attr:host"] = volume.host or None
    if request.allows("volume_extension:volume_mig_status_attribute", target):
        made |= {"os-vol-mig-status-attr:migstat": None, "os-vol-mig-status-attr:name_id": None}
    if request.allows("volume_extension:volume_tenant_attribute", target):
        made["os-vol-tenant-attr:tenant_id"] = volume.project_id
    if volume.image_metadata:
        made["volume_image_metadata"] = dict(volume.image_metadata)
    return made


def summary(request: Request[Any], volume: Volume) -> dict[str, Any]:
    """A volume in the short list."""
    return {"id": volume.id, "name": volume.name, "links": links(request, volume.id)}


def links(request: Request[Any], volume_id: str) -> list[dict[str, str]]:
    """`self` and `bookmark`."""
    base = prefix(request)
    bookmark = f"{request.origin}{base.removeprefix(request.origin).removeprefix('/v3')}"
    return [
        {"rel": "self", "href": f"{base}/volumes/{volume_id}"},
        {"rel": "bookmark", "href": f"{bookmark}/volumes/{volume_id}"},
    ]


def _attached(one: Attachment, is_admin: bool) -> dict[str, Any]:
    return {
        "id": one.volume_id,
        "attachment_id": one.id,
        "volume_id": one.volume_id,
        "server_id": one.instance_id or None,
        "host_name": (one.host or None) if is_admin else None,
        "device": one.mountpoint or None,
        "attached_at": iso_micros(one.attached_at) if one.attached_at else None,
    }
