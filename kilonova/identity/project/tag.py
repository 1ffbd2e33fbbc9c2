"""Tags of projects over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.identity import answers
from kilonova.identity.project import store as project_store
from kilonova.identity.project.resource import CHANGES, PROJECTS, SEES
from kilonova.identity.project.tag_names import checked_tags
from kilonova.identity.rules import ANYWHERE, rule

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService


async def list_tags(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """The project's tags."""
    project = await PROJECTS.load(service, request)
    return answers.collection(request, "tags", project.tags)


async def show_tag(service: IdentityService, request: Request[None]) -> None:
    """Whether the project has the tag."""
    project = await PROJECTS.load(service, request)
    if request.path["tag"] not in project.tags:
        raise answers.missing("project tag", request.path["tag"])


class ReplaceTags(msgspec.Struct):
    """All the tags that the project shall have."""

    tags: list[str]


async def replace_tags(service: IdentityService, request: Request[ReplaceTags]) -> dict[str, Any]:
    """These tags and no others."""
    project = await PROJECTS.load(service, request)
    project.tags = sorted(checked_tags(request.body.tags))
    await service.db.write(project_store.set_tags, project.id, project.tags)
    return answers.collection(request, "tags", project.tags)


async def add_tag(service: IdentityService, request: Request[None]) -> None:
    """One tag more."""
    project = await PROJECTS.load(service, request)
    tags = sorted(checked_tags(list({*project.tags, request.path["tag"]})))
    await service.db.write(project_store.set_tags, project.id, tags)


async def delete_tag(service: IdentityService, request: Request[None]) -> None:
    """One tag less."""
    project = await PROJECTS.load(service, request)
    if request.path["tag"] not in project.tags:
        raise answers.missing("project tag", request.path["tag"])
    await service.db.write(project_store.set_tags, project.id, [t for t in project.tags if t != request.path["tag"]])


async def delete_tags(service: IdentityService, request: Request[None]) -> None:
    """No tags."""
    project = await PROJECTS.load(service, request)
    await service.db.write(project_store.set_tags, project.id, [])


_TAGS = f"{PROJECTS.one}/tags"
_TAG = f"{_TAGS}/{{tag}}"
_WAYS: tuple[tuple[str, str, Any, str, str, int], ...] = (  # method, path, handler, rule, check, success
    ("GET", _TAGS, list_tags, "list_project_tags", SEES, 200),
    ("PUT", _TAGS, replace_tags, "update_project_tags", CHANGES, 200),
    ("DELETE", _TAGS, delete_tags, "delete_project_tags", CHANGES, 204),
    ("GET", _TAG, show_tag, "get_project_tag", SEES, 204),
    ("PUT", _TAG, add_tag, "create_project_tag", CHANGES, 201),
    ("DELETE", _TAG, delete_tag, "delete_project_tag", CHANGES, 204),
)
ROUTES = tuple(
    Route(
        method=method,
        path=path,
        handler=handler,
        policy=f"identity:{name}",
        success=success,
        body=ReplaceTags if handler is replace_tags else None,
    )
    for method, path, handler, name, _, success in _WAYS
)
RULES = tuple(rule(name, check, ANYWHERE, (method, path)) for method, path, _, name, check, _ in _WAYS)
