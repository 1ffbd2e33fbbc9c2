"""How a snapshot shows, at each microversion and to each caller."""

from __future__ import annotations

from typing import Any

from kilonova.base.clock import iso_micros
from kilonova.block_storage.snapshot.store import Snapshot
from kilonova.http.fields import Field, View
from kilonova.http.request import Request

EXTENDED = "volume_extension:extended_snapshot_attributes"

SHORT: View[Snapshot] = View(
    Field("id", lambda s: s.id),
    Field("name", lambda s: s.name),
    Field("description", lambda s: s.description),
    Field("volume_id", lambda s: s.volume_id),
    Field("status", lambda s: s.status),
    Field("size", lambda s: s.size_gib),
    Field("created_at", lambda s: iso_micros(s.created_at)),
    Field("updated_at", lambda s: iso_micros(s.updated_at) if s.updated_at else None),
    Field("metadata", lambda s: dict(s.metadata)),
)
_NEWER: View[Snapshot] = View(
    Field("group_snapshot_id", lambda s: None, since="3.14"),
    Field("user_id", lambda s: s.user_id, since="3.41"),
    Field("consumes_quota", lambda s: True, since="3.65"),
)


def summary(request: Request[Any], snapshot: Snapshot) -> dict[str, Any]:
    """A snapshot in the short list."""
    return SHORT.show(request.version, snapshot)


def basic(request: Request[Any], snapshot: Snapshot) -> dict[str, Any]:
    """A snapshot as create and update answer it."""
    return SHORT.show(request.version, snapshot) | _NEWER.show(request.version, snapshot)


def detailed(request: Request[Any], snapshot: Snapshot) -> dict[str, Any]:
    """A snapshot as show and the detailed list answer it."""
    made = basic(request, snapshot)
    if request.allows(EXTENDED, {"project_id": snapshot.project_id}):
        done = snapshot.status not in ("creating", "error")
        made["os-extended-snapshot-attributes:progress"] = "100%" if done else "0%"
        made["os-extended-snapshot-attributes:project_id"] = snapshot.project_id
    return made
