"""GET /v3/role_assignments: who has which role where, as given or in effect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kilonova.base.faults import invalid
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.identity import answers
from kilonova.identity.assignment import grant
from kilonova.identity.assignment import store as assignment_store
from kilonova.identity.assignment.effective import Effect, effects
from kilonova.identity.assignment.store import Assignment, Named, Names
from kilonova.identity.project import store as project_store
from kilonova.identity.rules import ANYWHERE, READER_OR_DOMAIN_READER, rule

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService

_INHERITED = "scope.OS-INHERIT:inherited_to"


async def list_(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """Assignments by user, group, role and scope; `effective`, `include_names`, `include_subtree`."""
    query = request.query
    effective = answers.is_true(request, "effective")
    _refuse_contradictions(request, effective)
    scope_ids = await _allowed_scope(service, request)
    found = await _effects(service, request) if effective else await _given(service, request)
    wanted = _wanted(request, effective)
    shown = [one for one in found if all(getattr(one.shown, key) == value for key, value in wanted.items())]
    if scope_ids is not None:
        shown = [one for one in shown if one.shown.scope == "project" and one.shown.scope_id in scope_ids]
    names = None
    own = request.caller.domain_id
    if answers.is_true(request, "include_names") or own:
        names = await service.db.read(assignment_store.read_names, [one.shown for one in shown])
    if own and names is not None:
        shown = [one for one in shown if _in_domain(one.shown, own, names)]
    used = names if "include_names" in query and answers.is_true(request, "include_names") else None
    return answers.collection(request, "role_assignments", (_show(request, one, used) for one in shown))


def _refuse_contradictions(request: Request[Any], effective: bool) -> None:
    query = request.query
    if "user.id" in query and "group.id" in query:
        raise invalid("Specify a user or group, not both.")
    if effective and "group.id" in query:
        raise invalid("Combining effective and group filter will always result in an empty list.")
    if "scope.project.id" in query and "scope.domain.id" in query:
        raise invalid("Specify a domain or project, not both.")
    if query.get(_INHERITED) not in (None, "projects"):
        raise invalid(f"Invalid input for query parameter {_INHERITED}: only 'projects' is known.")
    if answers.is_true(request, "include_subtree") and "scope.project.id" not in query:
        raise invalid("scope.project.id must be specified if include_subtree is also specified.")


async def _allowed_scope(service: IdentityService, request: Request[Any]) -> set[str] | None:
    """Checks the rule; ids of the projects of the tree asked for, None when no tree is."""
    own = request.caller.domain_id
    if not answers.is_true(request, "include_subtree"):
        request.enforce({"target": {"domain_id": own}} if own else {})
        return None
    top = request.query.get("scope.project.id") or ""
    project = await service.db.read(project_store.get, top)
    target = {"target": {"domain_id": project.domain_id}} if project else {}
    request.enforce(target, "identity:list_role_assignments_for_tree")
    if project is None:
        raise answers.missing("project", top)
    return {top, *(one.id for one in await service.db.read(project_store.subtree, top))}


def _wanted(request: Request[Any], effective: bool) -> dict[str, Any]:
    """What is asked for, as columns and values."""
    query = request.query
    wanted: dict[str, Any] = {}
    for key, actor in (("user.id", "user"), ("group.id", "group")):
        if value := query.get(key):
            wanted |= {"actor": actor, "actor_id": value}
    if value := query.get("role.id"):
        wanted["role_id"] = value
    if value := query.get("scope.domain.id"):
        wanted |= {"scope": "domain", "scope_id": value}
    if (value := query.get("scope.project.id")) and not answers.is_true(request, "include_subtree"):
        wanted |= {"scope": "project", "scope_id": value}
    if "scope.system" in query:
        wanted["scope"] = "system"
    if _INHERITED in query and not effective:
        wanted["inherited"] = True
    return wanted


async def _given(service: IdentityService, request: Request[Any]) -> list[Effect]:
    found = await service.db.read(assignment_store.listed, _wanted(request, False))
    return [Effect(one, one) for one in found]


async def _effects(service: IdentityService, request: Request[Any]) -> list[Effect]:
    """Of one user when one is asked for: only what concerns it is read, however many others there are."""
    user_id = request.query.get("user.id") or ""
    wanted: dict[str, Any] = {"inherited": True} if _INHERITED in request.query else {}
    return effects(*await service.db.read(assignment_store.in_effect, wanted, user_id))


def _in_domain(one: Assignment, domain_id: str, names: Names) -> bool:
    if one.scope == "domain":
        return one.scope_id == domain_id
    project = names.projects.get(one.scope_id)
    return project is not None and project.domain_id == domain_id


def _show(request: Request[Any], effect: Effect, names: Names | None) -> dict[str, Any]:
    one, given = effect.shown, effect.given
    known = (names.users if one.actor == "user" else names.groups) if names else None
    entity: dict[str, Any] = {
        "role": _ref(one.role_id, names.roles if names else None),
        one.actor: _ref(one.actor_id, known),
    }
    scope: dict[str, Any]
    if one.scope == "system":
        scope = {"system": {"all": True}}
    elif one.scope == "domain":
        scope = {"domain": {"id": one.scope_id}}
        if names:
            scope["domain"]["name"] = names.domains.get(one.scope_id, "")
    else:
        scope = {"project": _ref(one.scope_id, names.projects if names else None)}
    if given.inherited:
        scope["OS-INHERIT:inherited_to"] = "projects"
    links = {"assignment": _link(request, given)}
    if effect.group_id:
        links["membership"] = answers.link(request, "groups", effect.group_id, "users", one.actor_id)
    if effect.prior_role_id:
        links["prior_role"] = answers.link(request, "prior_role", effect.prior_role_id, "implies", one.role_id)
    return {**entity, "scope": scope, "links": links}


def _ref(id_: str, known: dict[str, Named] | None) -> dict[str, Any]:
    found = known.get(id_) if known is not None else None
    if found is None:
        return {"id": id_}
    shown: dict[str, Any] = {"id": id_, "name": found.name}
    if found.domain_id:
        shown["domain"] = {"id": found.domain_id, "name": found.domain_name}
    return shown


def _link(request: Request[Any], one: Assignment) -> str:
    where = ("system",) if one.scope == "system" else (f"{one.scope}s", one.scope_id)
    path = (*where, f"{one.actor}s", one.actor_id, "roles", one.role_id)
    if one.inherited:
        path = ("OS-INHERIT", *path, "inherited_to_projects")
    return answers.link(request, *path)


_PATH = "/v3/role_assignments"
ROUTES: tuple[Route, ...] = (
    Route(method="GET", path=_PATH, handler=list_, policy="identity:list_role_assignments"),
    *grant.ROUTES,
)
RULES = (
    rule("list_role_assignments", READER_OR_DOMAIN_READER, ANYWHERE, ("GET", _PATH)),
    rule("list_role_assignments_for_tree", READER_OR_DOMAIN_READER, ANYWHERE, ("GET", f"{_PATH}?include_subtree")),
    *grant.RULES,
)
