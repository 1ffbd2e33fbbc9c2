"""Which projects may use a private flavor."""

from __future__ import annotations

from typing import Any

import msgspec

from kilonova.base.faults import conflict
from kilonova.compute.core import Compute
from kilonova.compute.flavor import store
from kilonova.compute.flavor.resource import load, not_public
from kilonova.compute.values import printable_name
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.policy.personas import ADMIN
from kilonova.policy.rules import Rule


class Access(msgspec.Struct, forbid_unknown_fields=True):
    """Which project: the value of the action."""

    tenant: str


def _shown(flavor_id: str, projects: list[str]) -> dict[str, Any]:
    return {"flavor_access": [{"flavor_id": flavor_id, "tenant_id": project_id} for project_id in projects]}


async def index(compute: Compute, request: Request[None]) -> dict[str, Any]:
    """The projects that may use a private flavor."""
    request.enforce()
    flavor = await load(compute, request)
    not_public(flavor)
    return _shown(flavor.id, await compute.db.read(store.projects_of, flavor.id))


async def add(compute: Compute, request: Request[Access]) -> dict[str, Any]:
    """The project may use the flavor from now on."""
    request.enforce()
    project_id = printable_name(request.body.tenant, "tenant")
    flavor = await load(compute, request)
    if flavor.is_public and request.version >= (2, 7):
        raise conflict("Can not add access to a public flavor.", hint="Every project may use it already.")
    return _shown(flavor.id, await compute.db.write(store.give, flavor.id, project_id))


async def remove(compute: Compute, request: Request[Access]) -> dict[str, Any]:
    """The project may not use the flavor any more."""
    request.enforce()
    project_id = printable_name(request.body.tenant, "tenant")
    flavor = await load(compute, request)
    return _shown(flavor.id, await compute.db.write(store.take_away, flavor.id, project_id))


_NAME = "os_compute_api:os-flavor-access"
_LIST = "/flavors/{flavor_id}/os-flavor-access"
_ACTION = "/flavors/{flavor_id}/action"
ROUTES: tuple[Route, ...] = (
    Route(method="GET", path=_LIST, handler=index, policy=_NAME),
    Route(method="POST", path=_ACTION, handler=add, policy=f"{_NAME}:add_tenant_access", body=Access,
          action="addTenantAccess"),
    Route(method="POST", path=_ACTION, handler=remove, policy=f"{_NAME}:remove_tenant_access", body=Access,
          action="removeTenantAccess"),
)  # fmt: skip
RULES: tuple[Rule, ...] = (
    Rule(_NAME, ADMIN, "List which projects may use a flavor", (("GET", _LIST),)),
    Rule(f"{_NAME}:add_tenant_access", ADMIN, "Let a project use a flavor", (("POST", _ACTION),)),
    Rule(f"{_NAME}:remove_tenant_access", ADMIN, "Let a project not use a flavor", (("POST", _ACTION),)),
)
