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
from kilonova.identity.domain.store import Domain
from kilonova.identity.names import checked_name
from kilonova.identity.project import store as project_store
from kilonova.identity.project.store import Project, TagFilter
from kilonova.identity.revoking import revoke_tokens
from kilonova.identity.rules import ADMIN, ANYWHERE, READER_OR_DOMAIN_READER, rule
from kilonova.identity.schema import domains, projects
from kilonova.policy.personas import SYSTEM_READER

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService

TAGS_MAXIMUM = 80
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


def show_project(request: Request[Any], project: Project) -> dict[str, Any]:
    """A project as clients see it."""
    shown = {
        **project.extra,
        "id": project.id,
        "name": project.name,
        "domain_id": project.domain_id,
        "parent_id": project.parent_id,
        "description": project.description,
        "enabled": project.enabled,
        "is_domain": False,
        "tags": project.tags,
        "options": {},
    }
    return answers.linked(request, "projects", shown)


def checked_tags(tags: list[str]) -> list[str]:
    """`tags` when a project may have them: at most 80 of 1 to 255 characters, none with a comma or a slash."""
    if len(tags) > TAGS_MAXIMUM:
        raise invalid(f"Invalid input for field project.tags: more than {TAGS_MAXIMUM} tags.")
    for tag in tags:
        if not 1 <= len(tag) <= 255 or "," in tag or "/" in tag:
            raise invalid(f"Invalid input for field project.tags: {tag[:60]!r} cannot be a tag.")
    if len(set(tags)) != len(tags):
        raise invalid("Invalid input for field project.tags: a tag stands there twice.")
    return tags


async def create(service: IdentityService, request: Request[ProjectBody]) -> dict[str, Any]:
    """A new project in the domain asked for, or the parent's, or the token's."""
    caller = request.caller
    body, extra = with_extra(request.body.project, CreateProject, "project")
    if body.is_domain:
        raise invalid("Projects that act as domains are made at /v3/domains.", hint="POST /v3/domains instead.")
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
    project = Project(
        service.world.ids.hex32(),
        domain_id,
        parent.id if parent else domain_id,
        name,
        body.description or "",
        body.enabled,
        extra,
        tags,
    )
    await service.db.write(project_store.insert, project)
    return {"project": show_project(request, project)}


async def _load(service: IdentityService, request: Request[Any]) -> Project:
    id_ = request.path["project_id"]
    project = await service.db.read(project_store.get, id_)
    request.enforce({"target": {"project": msgspec.structs.asdict(project)}} if project else {})
    if project is None:
        raise answers.missing("project", id_)
    return project


async def show(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """One project; `parents_as_list`, `parents_as_ids`, `subtree_as_list`, `subtree_as_ids` add its relatives."""
    project = await _load(service, request)
    shown = show_project(request, project)
    query = request.query
    if "parents_as_list" in query and "parents_as_ids" in query:
        raise invalid("Give one of parents_as_list and parents_as_ids, not both.")
    if "subtree_as_list" in query and "subtree_as_ids" in query:
        raise invalid("Give one of subtree_as_list and subtree_as_ids, not both.")
    if "parents_as_list" in query or "parents_as_ids" in query:
        above = await service.db.read(project_store.parents, project)
        if "parents_as_list" in query:
            shown["parents"] = [{"project": show_project(request, one)} for one in above]
        else:
            ids: dict[str, Any] | None = None
            for one in [*reversed(above)]:
                ids = {one.id: ids}
            shown["parents"] = {project.domain_id: None} if ids is None else ids
    if "subtree_as_list" in query or "subtree_as_ids" in query:
        below = await service.db.read(project_store.subtree, project.id)
        if "subtree_as_list" in query:
            shown["subtree"] = [{"project": show_project(request, one)} for one in below]
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
        return answers.collection(request, "projects", [])
    wanted = answers.filters(request, "name", "domain_id", "parent_id", "id", flags=("enabled",))
    if own and "admin" not in request.caller.roles:
        wanted.append(("domain_id", "equals", own))
    found = await service.db.read(project_store.listed, wanted, _tag_filter(request))
    return answers.collection(request, "projects", (show_project(request, one) for one in found))


def _tag_filter(request: Request[Any]) -> TagFilter:
    def tags(key: str) -> frozenset[str]:
        return frozenset(tag for tag in (request.query.get(key) or "").split(",") if tag)

    return TagFilter(tags("tags"), tags("tags-any"), tags("not-tags"), tags("not-tags-any"))


async def update(service: IdentityService, request: Request[ProjectBody]) -> dict[str, Any]:
    """Change some of a project; disabling it revokes its tokens."""
    project = await _load(service, request)
    body, extra = with_extra(request.body.project, UpdateProject, "project")
    changes = given(body)
    for key in ("domain_id", "parent_id", "is_domain"):
        if key in changes and changes.pop(key) != (getattr(project, key) if key != "is_domain" else False):
            raise forbidden(f"{key} of a project cannot be changed.")
    if "name" in changes:
        checked_name(changes["name"], "project.name", NAME_CHARACTERS)
    if changes.get("description", "") is None:
        changes["description"] = ""
    if extra:
        changes["extra"] = project.extra | extra
    tags = changes.pop("tags", None)
    if tags is not None:
        tags = sorted(checked_tags(tags))
    if changes.get("enabled") is False:
        below = await service.db.read(project_store.subtree, project.id)
        if any(one.enabled for one in below):
            raise forbidden("A project cannot be disabled while projects below it are enabled.")
    changed = msgspec.structs.replace(project, **changes, tags=project.tags if tags is None else tags)
    taken = f"Conflict occurred attempting to store project - Duplicate entry found with name {changed.name}."
    await service.change(store.change, projects, project.id, changes, taken)
    if tags is not None:
        await service.db.write(project_store.set_tags, project.id, tags)
    if changes.get("enabled") is False:
        await revoke_tokens(service, "project", project.id)
    return {"project": show_project(request, changed)}


async def delete(service: IdentityService, request: Request[None]) -> None:
    """The project and its assignments; what it owns elsewhere is not identity's."""
    project = await _load(service, request)
    if await service.db.read(project_store.children, [project.id]):
        raise forbidden("A project cannot be deleted while there are projects below it.")
    await service.change(project_store.delete, project.id)


async def list_tags(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """The project's tags."""
    project = await _load(service, request)
    return answers.collection(request, "tags", project.tags)


async def show_tag(service: IdentityService, request: Request[None]) -> None:
    """Whether the project has the tag."""
    project = await _load(service, request)
    if request.path["tag"] not in project.tags:
        raise answers.missing("project tag", request.path["tag"])


class ReplaceTags(msgspec.Struct):
    """All the tags that the project shall have."""

    tags: list[str]


async def replace_tags(service: IdentityService, request: Request[ReplaceTags]) -> dict[str, Any]:
    """These tags and no others."""
    project = await _load(service, request)
    project.tags = sorted(checked_tags(request.body.tags))
    await service.db.write(project_store.set_tags, project.id, project.tags)
    return answers.collection(request, "tags", project.tags)


async def add_tag(service: IdentityService, request: Request[None]) -> None:
    """One tag more."""
    project = await _load(service, request)
    tags = sorted(checked_tags(list({*project.tags, request.path["tag"]})))
    await service.db.write(project_store.set_tags, project.id, tags)


async def delete_tag(service: IdentityService, request: Request[None]) -> None:
    """One tag less."""
    project = await _load(service, request)
    if request.path["tag"] not in project.tags:
        raise answers.missing("project tag", request.path["tag"])
    await service.db.write(project_store.set_tags, project.id, [t for t in project.tags if t != request.path["tag"]])


async def delete_tags(service: IdentityService, request: Request[None]) -> None:
    """No tags."""
    project = await _load(service, request)
    await service.db.write(project_store.set_tags, project.id, [])


_PATH = "/v3/projects"
_ONE = f"{_PATH}/{{project_id}}"
_TAG = f"{_ONE}/tags/{{tag}}"


def _route(method: str, path: str, handler: Any, rule_name: str, success: int = 200, **more: Any) -> Route:
    return Route(method=method, path=path, handler=handler, policy=f"identity:{rule_name}", success=success, **more)


ROUTES: tuple[Route, ...] = (
    _route("POST", _PATH, create, "create_project", 201, body=ProjectBody),
    _route("GET", _PATH, list_, "list_projects"),
    _route("GET", _ONE, show, "get_project"),
    _route("PATCH", _ONE, update, "update_project", body=ProjectBody),
    _route("DELETE", _ONE, delete, "delete_project", 204),
    _route("GET", f"{_ONE}/tags", list_tags, "list_project_tags"),
    _route("PUT", f"{_ONE}/tags", replace_tags, "update_project_tags", body=ReplaceTags),
    _route("DELETE", f"{_ONE}/tags", delete_tags, "delete_project_tags", 204),
    _route("GET", _TAG, show_tag, "get_project_tag", 204),
    _route("PUT", _TAG, add_tag, "create_project_tag", 201),
    _route("DELETE", _TAG, delete_tag, "delete_project_tag", 204),
)
_SEES = (
    f"({ADMIN}) or ({SYSTEM_READER}) or (role:reader and domain_id:%(target.project.domain_id)s and "
    "not None:%(target.project.domain_id)s) or project_id:%(target.project.id)s"
)
_CHANGES = (
    f"({ADMIN}) or (role:manager and domain_id:%(target.project.domain_id)s and not None:%(target.project.domain_id)s)"
)
RULES = (
    rule("get_project", _SEES, ANYWHERE, ("GET", _ONE)),
    rule("list_projects", READER_OR_DOMAIN_READER, ANYWHERE, ("GET", _PATH)),
    rule("create_project", _CHANGES, ANYWHERE, ("POST", _PATH)),
    rule("update_project", _CHANGES, ANYWHERE, ("PATCH", _ONE)),
    rule("delete_project", _CHANGES, ANYWHERE, ("DELETE", _ONE)),
    rule("list_project_tags", _SEES, ANYWHERE, ("GET", f"{_ONE}/tags")),
    rule("get_project_tag", _SEES, ANYWHERE, ("GET", _TAG)),
    rule("update_project_tags", _CHANGES, ANYWHERE, ("PUT", f"{_ONE}/tags")),
    rule("create_project_tag", _CHANGES, ANYWHERE, ("PUT", _TAG)),
    rule("delete_project_tags", _CHANGES, ANYWHERE, ("DELETE", f"{_ONE}/tags")),
    rule("delete_project_tag", _CHANGES, ANYWHERE, ("DELETE", _TAG)),
)
