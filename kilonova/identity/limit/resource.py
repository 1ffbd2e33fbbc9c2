"""Limits over HTTP: how much of a resource one project, or one domain, may have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from kilonova.base.faults import invalid
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.identity import answers
from kilonova.identity.bodies import given
from kilonova.identity.domain.resource import DOMAINS
from kilonova.identity.limit import registered
from kilonova.identity.limit import store as limit_store
from kilonova.identity.limit.model import DESCRIPTIONS
from kilonova.identity.limit.registered import Amount
from kilonova.identity.limit.store import Limit, Wanted
from kilonova.identity.noun import Noun, Target
from kilonova.identity.project import store as project_store
from kilonova.identity.rules import ADMIN, ANYWHERE, READER, SYSTEM_OR_PROJECT, rule
from kilonova.identity.schema import limits

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService


class NewLimit(msgspec.Struct, forbid_unknown_fields=True):
    """One of the body's `limits`: of a project or of a domain."""

    service_id: str
    resource_name: str
    resource_limit: Amount
    project_id: str | None = None
    domain_id: str | None = None
    region_id: str | None = None
    description: str | None = None


class CreateLimits(msgspec.Struct):
    """Several at once."""

    limits: Annotated[list[NewLimit], Meta(min_length=1)]


class UpdateLimit(msgspec.Struct, forbid_unknown_fields=True):
    """The body's `limit`: what is left out stays."""

    resource_limit: Amount | UnsetType = UNSET
    description: str | UnsetType | None = UNSET


def _shown(request: Request[Any], one: Limit) -> dict[str, Any]:
    shown = msgspec.structs.asdict(one)
    del shown["registered_limit_id"], shown["project_domain_id"]
    return shown | {key: shown[key] or None for key in ("project_id", "domain_id", "region_id")}


def _target(name: str, one: Limit | None) -> Target:
    if one is None:
        return {}
    target: dict[str, Any] = {"project_id": one.project_id or None}
    if one.project_id:
        target["project"] = {"domain_id": one.project_domain_id}
    else:
        target["domain"] = {"id": one.domain_id}
    return {"target": {"limit": target}}


LIMITS = Noun("limit", limits, Limit, get=limit_store.get, shown=_shown, target=_target)


async def show_model(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """The enforcement model in force."""
    request.enforce({})
    model = service.settings.limit_model
    return {"model": {"name": model, "description": DESCRIPTIONS[model]}}


async def create(service: IdentityService, request: Request[CreateLimits]) -> dict[str, Any]:
    """New limits, all or none; the resource must be registered."""
    request.enforce({})
    new = [await _made(service, one) for one in request.body.limits]
    await service.db.write(limit_store.insert, new, service.settings.limit_model)
    return answers.collection(request, "limits", (LIMITS.view(request, one) for one in new))


async def _made(service: IdentityService, one: NewLimit) -> Limit:
    if bool(one.project_id) == bool(one.domain_id):
        raise invalid("Invalid input for field limit: give one of project_id and domain_id.")
    if one.domain_id:
        await DOMAINS.named(service, one.domain_id, "limit.domain_id")
    elif await service.db.read(project_store.get, one.project_id or "") is None:
        raise invalid(f"Invalid input for field limit.project_id: Could not find project: {one.project_id}.")
    return Limit(
        service.world.ids.hex32(),
        "",
        one.project_id or "",
        one.domain_id or "",
        one.resource_limit,
        one.description,
        one.service_id,
        one.region_id or "",
        one.resource_name,
    )


async def list_(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """Limits that the caller may see: all; or those of its domain and the projects in it; or of its project."""
    request.enforce({})
    query = request.query
    asked = {name: query.get(name) or "" for name in Wanted.__struct_fields__ if name != "id"}
    found = await service.db.read(limit_store.listed, Wanted(**asked))
    seen = [one for one in found if request.allows("identity:get_limit", _target("limit", one))]
    return answers.collection(request, "limits", (LIMITS.view(request, one) for one in seen))


async def update(service: IdentityService, request: Request[UpdateLimit]) -> dict[str, Any]:
    """Change how much it is."""
    found = msgspec.structs.replace(await LIMITS.load(service, request), **given(request.body))
    await service.db.write(limit_store.change, found, service.settings.limit_model)
    return LIMITS.body(request, found)


ROUTES: tuple[Route, ...] = (
    *registered.ROUTES,
    Route(
        method="POST",
        path=LIMITS.path,
        handler=create,
        policy="identity:create_limits",
        body=CreateLimits,
        success=201,
    ),
    Route(method="GET", path=f"{LIMITS.path}/model", handler=show_model, policy="identity:get_limit_model"),
    *LIMITS.routes(create, update, (CreateLimits, UpdateLimit), list_=list_)[1:],
)
_SEES = (
    f"({READER}) or (domain_id:%(target.limit.domain.id)s or domain_id:%(target.limit.project.domain_id)s) or "
    "(project_id:%(target.limit.project_id)s and not None:%(target.limit.project_id)s)"
)
RULES = (
    *registered.RULES,
    rule("get_limit_model", "", ANYWHERE, ("GET", f"{LIMITS.path}/model"), ("HEAD", f"{LIMITS.path}/model")),
    rule("get_limit", _SEES, ANYWHERE, ("GET", LIMITS.one), ("HEAD", LIMITS.one)),
    rule("list_limits", "", ANYWHERE, ("GET", LIMITS.path), ("HEAD", LIMITS.path)),
    rule("create_limits", ADMIN, SYSTEM_OR_PROJECT, ("POST", LIMITS.path)),
    rule("update_limit", ADMIN, SYSTEM_OR_PROJECT, ("PATCH", LIMITS.one)),
    rule("delete_limit", ADMIN, SYSTEM_OR_PROJECT, ("DELETE", LIMITS.one)),
)
