"""Projects over HTTP: a tree under each domain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, UnsetType

from kilonova.base.faults import forbidden, invalid
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.identity import answers, store
from kilonova.identity.bodies import given, with_extra
from kilonova.identity.domain.resource import DOMAINS, delete_domain
from kilonova.identity.domain.store import Domain
from kilonova.identity.immutable import check_changeable, merged_options
from kilonova.identity.names import checked_name
from kilonova.identity.noun import Noun, within
from kilonova.identity.project import store as project_store
from kilonova.identity.project.store import Project, TagFilter
from kilonova.identity.project.tag_names import checked_tags
from kilonova.identity.revoking import Revoked, change_and_revoke
from kilonova.identity.rules import ADMIN, ANYWHERE, READER_OR_DOMAIN_READER, rule
from kilonova.identity.schema import domains, projects
from kilonova.policy.personas import SYSTEM_READER

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService

NAME_CHARACTERS = 64


class ProjectBody(msgspec.Struct):
    """{"project": …}; unknown keys in it are kept."""

    project: dict[str, Any]


class CreateProject(msgspec.Struct):
    """The known keys of a new project."""

    name: str
    domain_id: str | None = None
    parent_id: str | None = None
    description: str | None = None
    enabled: bool = True
    is_domain: bool = False
    tags: list[str] = []
    options: dict[str, Any] = {}


class UpdateProject(msgspec.Struct):
    """The known keys of a change: what is left out stays."""

    name: str | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET
    domain_id: str | UnsetType = UNSET
    parent_id: str | UnsetType | None = UNSET
    is_domain: bool | UnsetType = UNSET
    tags: list[str] | UnsetType = UNSET
    options: dict[str, Any] | UnsetType = UNSET


def _shown(request: Request[Any], project: Project) -> dict[str, Any]:
    return {
        **project.extra,
        "id": project.id,
        "name": project.name,
        "domain_id": project.domain_id or None,
        "parent_id": project.parent_id or None,
        "description": project.description,
        "enabled": project.enabled,
        "is_domain": project.is_domain,
        "tags": project.tags,
        "options": project.options or {},
    }


PROJECTS = Noun("project", projects, Project, target=within, get=project_store.get_or_domain, shown=_shown)


async def create(service: IdentityService, request: Request[ProjectBody]) -> dict[str, Any]:
    """A new project in the domain asked for, or the parent's, or the token's."""
    caller = request.caller
    body, extra = with_extra(request.body.project, CreateProject, "project")
    if body.is_domain:
        return await _create_domain(service, request, body)
    parent = await service.db.read(project_store.get, body.parent_id) if body.parent_id else None
    above = parent.domain_id if parent else body.parent_id
    domain_id = body.domain_id or above or caller.domain_id or caller.project_domain_id or "default"
    request.enforce({"target": {"project": {"domain_id": domain_id}}})
    name = checked_name(body.name, "project.name", NAME_CHARACTERS)
    tags = sorted(checked_tags(body.tags))
    domain = await service.db.read(store.get, domains, Domain, domain_id)
    if domain is None:
        raise invalid(f"Could not find domain: {domain_id[:64]}.", hint="Name a domain that exists.")
    if body.parent_id and parent is None and body.parent_id != domain_id:
        raise invalid(f"Could not find parent project: {body.parent_id[:64]}.")
    if parent is not None and (parent.domain_id != domain_id or not parent.enabled):
        raise invalid("The parent project is disabled, or in another domain.")
    if parent is not None:
        await _check_depth(service, parent)
    project = Project(
        service.world.ids.hex32(),
        domain_id,
        parent.id if parent else domain_id,
        name,
        body.description or "",
        body.enabled,
        extra,
        tags,
        merged_options({}, body.options, "project"),
    )
    await service.db.write(project_store.insert, project)
    return {"project": PROJECTS.view(request, project)}


async def _create_domain(service: IdentityService, request: Request[Any], body: CreateProject) -> dict[str, Any]:
    """A new domain, asked for as the project that it acts as."""
    request.enforce({})
    if body.domain_id or body.parent_id:
        raise invalid("A project that acts as a domain is in no domain and below no project.")
    name = checked_name(body.name, "project.name", NAME_CHARACTERS)
    options = merged_options({}, body.options, "project")
    domain = Domain(service.world.ids.hex32(), name, body.description or "", body.enabled, options)
    taken = f"Conflict occurred attempting to store project - Duplicate entry found with name {name}."
    await service.db.write(store.insert, domains, domain, taken)
    return PROJECTS.body(request, project_store.as_project(domain))


async def _check_depth(service: IdentityService, parent: Project) -> None:
    """FORBIDDEN when no project may be below `parent`, as so many are above already."""
    deepest = 1 if service.settings.limit_model == "strict_two_level" else service.settings.project_depth_maximum
    if len(await service.db.read(project_store.parents, parent)) + 2 > deepest:
        raise forbidden(f"Max hierarchy depth reached for {parent.id} branch: {deepest}.")


async def show(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """One project; `parents_as_list`, `parents_as_ids`, `subtree_as_list`, `subtree_as_ids` add its relatives."""
    project = await PROJECTS.load(service, request)
    shown = PROJECTS.view(request, project)
    query = request.query
    if "parents_as_list" in query and "parents_as_ids" in query:
        raise invalid("Give one of parents_as_list and parents_as_ids, not both.")
    if "subtree_as_list" in query and "subtree_as_ids" in query:
        raise invalid("Give one of subtree_as_list and subtree_as_ids, not both.")
    if "parents_as_list" in query or "parents_as_ids" in query:
        above = await service.db.read(project_store.parents, project)
        if "parents_as_list" in query:
            shown["parents"] = [{"project": PROJECTS.view(request, one)} for one in above]
        else:
            ids: dict[str, Any] | None = None
            for one in [*reversed(above)]:
                ids = {one.id: ids}
            shown["parents"] = {project.domain_id: None} if ids is None else ids
    if "subtree_as_list" in query or "subtree_as_ids" in query:
        below = await service.db.read(project_store.subtree, project.id)
        if "subtree_as_list" in query:
            shown["subtree"] = [{"project": PROJECTS.view(request, one)} for one in below]
        else:
            shown["subtree"] = _ids_below(project.id, below)
    return {"project": shown}


def _ids_below(project_id: str, below: list[Project]) -> dict[str, Any] | None:
    mine = {one.id: _ids_below(one.id, below) for one in below if one.parent_id == project_id}
    return mine or None


async def list_(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """Projects by domain, parent, name, tags; with a token of a domain, those in it."""
    own = request.caller.domain_id
    request.enforce({"target": {"domain_id": own}} if own else {})
    if request.query.boolean("is_domain"):
        asked = answers.filters(request, "name", "id", flags=("enabled",))
        acting = await service.db.read(store.listed, domains, Domain, asked, None if not own else [own])
        views = (PROJECTS.view(request, project_store.as_project(one)) for one in acting)
        return answers.collection(request, "projects", views)
    wanted = answers.filters(request, "name", "domain_id", "parent_id", "id", flags=("enabled",))
    if own:
        wanted.append(("domain_id", "equals", own))
    found = await service.db.read(project_store.listed, wanted, _tag_filter(request))
    return answers.collection(request, "projects", (PROJECTS.view(request, one) for one in found))


def _tag_filter(request: Request[Any]) -> TagFilter:
    def tags(key: str) -> frozenset[str]:
        return frozenset(tag for tag in (request.query.get(key) or "").split(",") if tag)

    return TagFilter(tags("tags"), tags("tags-any"), tags("not-tags"), tags("not-tags-any"))


async def update(service: IdentityService, request: Request[ProjectBody]) -> dict[str, Any]:
    """Change some of a project; disabling it revokes its tokens."""
    project = await PROJECTS.load(service, request)
    body, extra = with_extra(request.body.project, UpdateProject, "project")
    changes = given(body)
    check_changeable("Project", project.id, project.options, changes)
    for key in ("domain_id", "parent_id", "is_domain"):
        if key in changes and (changes.pop(key) or "") != (getattr(project, key) or ""):
            raise forbidden(f"{key} of a project cannot be changed.")
    if "name" in changes:
        checked_name(changes["name"], "project.name", NAME_CHARACTERS)
    if changes.get("description", "") is None:
        changes["description"] = ""
    if "options" in changes:
        changes["options"] = merged_options(project.options, changes["options"], "project")
    if extra and not project.is_domain:
        changes["extra"] = project.extra | extra
    tags = changes.pop("tags", None)
    if tags is not None:
        tags = sorted(checked_tags(tags))
    if changes.get("enabled") is False:
        below = await service.db.read(project_store.subtree, project.id)
        if any(one.enabled for one in below) and not project.is_domain:
            raise forbidden("A project cannot be disabled while projects below it are enabled.")
    changed = msgspec.structs.replace(project, **changes, tags=project.tags if tags is None else tags)
    taken = f"Conflict occurred attempting to store project - Duplicate entry found with name {changed.name}."
    table = domains if project.is_domain else projects
    revoked: Revoked = ("domain", project.id) if project.is_domain else ("project", project.id)
    ends = changes.get("enabled") is False
    await change_and_revoke(service, revoked if ends else None, store.change, table, project.id, changes, taken)
    if tags is not None and not project.is_domain:
        await service.db.write(project_store.set_tags, project.id, tags)
    return PROJECTS.body(request, changed)


async def delete(service: IdentityService, request: Request[None]) -> None:
    """The project and its assignments; what it owns elsewhere is not identity's."""
    project = await PROJECTS.load(service, request)
    check_changeable("Project", project.id, project.options, {})
    if project.is_domain:
        await delete_domain(service, await DOMAINS.named(service, project.id, "project"))
        return
    if await service.db.read(project_store.children, [project.id]):
        raise forbidden("A project cannot be deleted while there are projects below it.")
    await service.change(project_store.delete, project.id)


def _route(method: str, path: str, handler: Any, rule_name: str, success: int = 200, **more: Any) -> Route:
    return Route(method=method, path=path, handler=handler, policy=f"identity:{rule_name}", success=success, **more)


ROUTES: tuple[Route, ...] = (
    _route("POST", PROJECTS.path, create, "create_project", 201, body=ProjectBody),
    _route("GET", PROJECTS.path, list_, "list_projects"),
    _route("GET", PROJECTS.one, show, "get_project"),
    _route("PATCH", PROJECTS.one, update, "update_project", body=ProjectBody),
    _route("DELETE", PROJECTS.one, delete, "delete_project", 204),
)
SEES = (
    f"({ADMIN}) or ({SYSTEM_READER}) or (role:reader and domain_id:%(target.project.domain_id)s and "
    "not None:%(target.project.domain_id)s) or project_id:%(target.project.id)s"
)
CHANGES = (
    f"({ADMIN}) or (role:manager and domain_id:%(target.project.domain_id)s and not None:%(target.project.domain_id)s)"
)
RULES = (
    *(one for one in PROJECTS.rules(SEES, CHANGES, ANYWHERE) if one.name != "identity:list_projects"),
    rule("list_projects", READER_OR_DOMAIN_READER, ANYWHERE, ("GET", PROJECTS.path)),
)
