"""GET /limits: what a project may have and has. There are no rate limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from kilonova.compute.core import Compute
from kilonova.compute.quota.resource import limits_and_used
from kilonova.http.fields import Field, View
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.policy.personas import ADMIN, ANY
from kilonova.policy.rules import Rule


class Absolute(msgspec.Struct, frozen=True):
    """A project's limits and what it has of them."""

    limit: Mapping[str, int]
    used: Mapping[str, int]


_VIEW: View[Absolute] = View(
    Field("maxServerMeta", lambda a: a.limit["metadata_items"]),
    Field("maxImageMeta", lambda a: a.limit["metadata_items"], until="2.38"),
    Field("maxPersonality", lambda a: a.limit["injected_files"], until="2.56"),
    Field("maxPersonalitySize", lambda a: a.limit["injected_file_content_bytes"], until="2.56"),
    Field("maxTotalInstances", lambda a: a.limit["instances"]),
    Field("maxTotalCores", lambda a: a.limit["cores"]),
    Field("maxTotalRAMSize", lambda a: a.limit["ram"]),
    Field("maxTotalKeypairs", lambda a: a.limit["key_pairs"]),
    Field("maxServerGroups", lambda a: a.limit["server_groups"]),
    Field("maxServerGroupMembers", lambda a: a.limit["server_group_members"]),
    # Network's quotas are network's: older clients see that compute sets none.
    Field("maxSecurityGroups", lambda a: -1, until="2.35"),
    Field("maxSecurityGroupRules", lambda a: -1, until="2.35"),
    Field("maxTotalFloatingIps", lambda a: -1, until="2.35"),
    Field("totalSecurityGroupsUsed", lambda a: 0, until="2.35"),
    Field("totalFloatingIpsUsed", lambda a: 0, until="2.35"),
    Field("totalInstancesUsed", lambda a: a.used["instances"]),
    Field("totalCoresUsed", lambda a: a.used["cores"]),
    Field("totalRAMUsed", lambda a: a.used["ram"]),
    Field("totalServerGroupsUsed", lambda a: a.used.get("server_groups", 0)),
)

_NAME = "os_compute_api:limits"
_OTHER = f"{_NAME}:other_project"


async def show(compute: Compute, request: Request[None]) -> dict[str, Any]:
    """The limits of the caller's project; an operator may name another with `tenant_id`."""
    request.enforce()
    project_id = request.query.get("tenant_id") or request.caller.project_id
    if project_id != request.caller.project_id:
        request.enforce({"project_id": project_id}, _OTHER)
    limits, have = await compute.db.read(limits_and_used, project_id, "")
    return {"limits": {"rate": [], "absolute": _VIEW.show(request.version, Absolute(limits, have))}}


ROUTES: tuple[Route, ...] = (Route(method="GET", path="/limits", handler=show, policy=_NAME),)
RULES: tuple[Rule, ...] = (
    Rule(_NAME, ANY, "Show the limits of one's own project", (("GET", "/limits"),)),
    Rule(_OTHER, ADMIN, "Show the limits of another project", (("GET", "/limits"),)),
)
