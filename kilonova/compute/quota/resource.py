"""Quotas over HTTP: of a project, of a user in it, and the defaults that hold where nothing was set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection

from kilonova.base.faults import invalid
from kilonova.compute.core import Compute
from kilonova.compute.quota import fields, store
from kilonova.compute.quota.usage import used
from kilonova.compute.values import truth, whole
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.policy.personas import ADMIN, ANY, PROJECT_READER_OR_ADMIN
from kilonova.policy.rules import Rule

DEFAULT_CLASS = "default"


class QuotaBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of an update; which keys there may be hangs on the microversion."""

    quota_set: dict[str, Any]


class ClassBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of an update of a class."""

    quota_class_set: dict[str, Any]


def _numbers(given: Mapping[str, Any], known: tuple[str, ...]) -> dict[str, int]:
    wanted = {}
    for name, value in given.items():
        if name not in known:
            raise invalid(
                f"Additional properties are not allowed ({name[:60]!r} was unexpected).",
                hint=f"Known at this API version: {', '.join(known)}.",
            )
        if not isinstance(value, int | str):
            raise invalid(f"Invalid input for field/attribute {name}. Value: {value!r:.60}. It is not an integer.")
        wanted[name] = whole(value, name, minimum=-1)
    return wanted


def _show(names: tuple[str, ...], limits: Mapping[str, int]) -> dict[str, int]:
    return {name: limits.get(name, -1) for name in names}


def _project(request: Request[Any], *, rule: str = "") -> tuple[str, str]:
    """(project, user or "") of the request, allowed by the route's rule."""
    project_id = request.path["quota_project_id"]
    request.enforce({"project_id": project_id}, rule)
    return project_id, request.query.get("user_id") or ""


async def show(compute: Compute, request: Request[None]) -> dict[str, Any]:
    """The limits in force for the project, or with `user_id` for a user in it."""
    project_id, user_id = _project(request)
    limits = await compute.db.read(store.limits_of, project_id, user_id)
    return {"quota_set": {"id": project_id, **_show(fields.of_projects(request.version), limits)}}


async def defaults(compute: Compute, request: Request[None]) -> dict[str, Any]:
    """The limits of a project for which none were set."""
    project_id, _ = _project(request)
    limits = await compute.db.read(store.default_limits)
    return {"quota_set": {"id": project_id, **_show(fields.of_projects(request.version), limits)}}


def limits_and_used(connection: Connection, project_id: str, user_id: str) -> tuple[dict[str, int], dict[str, int]]:
    """(limits in force, what there is) from one snapshot."""
    return store.limits_of(connection, project_id, user_id), used(connection, project_id, user_id)


async def detail(compute: Compute, request: Request[None]) -> dict[str, Any]:
    """Limits with what is in use. Nothing is ever reserved: what counts are the rows themselves."""
    project_id, user_id = _project(request)
    limits, have = await compute.db.read(limits_and_used, project_id, user_id)
    shown = {
        name: {"limit": limits.get(name, -1), "in_use": have.get(name, 0), "reserved": 0}
        for name in fields.of_projects(request.version)
    }
    return {"quota_set": {"id": project_id, **shown}}


def _update(
    connection: Connection, project_id: str, user_id: str, wanted: dict[str, int], force: bool
) -> dict[str, int]:
    store.lock(connection, project_id)
    if not force:
        _refuse_below_use(used(connection, project_id, user_id), wanted)
    if user_id:
        _refuse_above_project(store.limits_of(connection, project_id), wanted)
    store.change(connection, "user" if user_id else "project", project_id, user_id, wanted)
    return store.limits_of(connection, project_id, user_id)


def _refuse_below_use(have: Mapping[str, int], wanted: Mapping[str, int]) -> None:
    for name, value in wanted.items():
        least = have.get(name, 0)
        if 0 <= value < least:
            raise invalid(
                f"Quota limit {value} for {name} must be greater than or equal to already used and reserved {least}.",
                hint="Delete something first, or send force.",
            )


def _refuse_above_project(project: Mapping[str, int], wanted: Mapping[str, int]) -> None:
    for name, value in wanted.items():
        most = project.get(name, -1)
        if most >= 0 and (value > most or value < 0):
            raise invalid(f"Quota limit {value} for {name} must be less than or equal to {most}.")


async def update(compute: Compute, request: Request[QuotaBody]) -> dict[str, Any]:
    """Limits set for the project, or with `user_id` for a user in it; what is not named stays."""
    project_id, user_id = _project(request)
    names = fields.of_projects(request.version)
    given = dict(request.body.quota_set)
    force = truth(given.pop("force", False), "force")
    wanted = _numbers(given, names)
    limits = await compute.db.write(_update, project_id, user_id, wanted, force)
    return {"quota_set": _show(names, limits)}


async def delete(compute: Compute, request: Request[None]) -> Answer:
    """The project, or the user in it, is back at what holds where nothing was set."""
    project_id, user_id = _project(request)
    await compute.db.write(store.forget, project_id, user_id)
    return Answer(None)


# ── classes: only `default` counts, as in every OpenStack cloud


def _class_limits(connection: Connection, name: str) -> dict[str, int]:
    return store.default_limits(connection) if name == DEFAULT_CLASS else dict(store.DEFAULTS)


async def show_class(compute: Compute, request: Request[None]) -> dict[str, Any]:
    """The limits of a class."""
    request.enforce()
    name = request.path["class_name"]
    limits = await compute.db.read(_class_limits, name)
    return {"quota_class_set": {"id": name, **_show(fields.of_classes(request.version), limits)}}


def _change_class(connection: Connection, wanted: dict[str, int]) -> dict[str, int]:
    store.change(connection, "default", "", "", wanted)
    return store.default_limits(connection)


async def update_class(compute: Compute, request: Request[ClassBody]) -> dict[str, Any]:
    """The defaults of the cloud changed."""
    request.enforce()
    name, names = request.path["class_name"], fields.of_classes(request.version)
    if name != DEFAULT_CLASS:
        raise invalid(f"There is no quota class {name[:80]!r}.", hint="Only `default` is used.")
    limits = await compute.db.write(_change_class, _numbers(request.body.quota_class_set, names))
    return {"quota_class_set": _show(names, limits)}


_SETS, _CLASSES = "os_compute_api:os-quota-sets", "os_compute_api:os-quota-class-sets"
_ONE, _CLASS = "/os-quota-sets/{quota_project_id}", "/os-quota-class-sets/{class_name}"
ROUTES: tuple[Route, ...] = (
    Route(method="GET", path=_ONE, handler=show, policy=f"{_SETS}:show"),
    Route(method="GET", path=f"{_ONE}/defaults", handler=defaults, policy=f"{_SETS}:defaults"),
    Route(method="GET", path=f"{_ONE}/detail", handler=detail, policy=f"{_SETS}:detail"),
    Route(method="PUT", path=_ONE, handler=update, policy=f"{_SETS}:update", body=QuotaBody),
    Route(method="DELETE", path=_ONE, handler=delete, policy=f"{_SETS}:delete", success=202),
    Route(method="GET", path=_CLASS, handler=show_class, policy=f"{_CLASSES}:show"),
    Route(method="PUT", path=_CLASS, handler=update_class, policy=f"{_CLASSES}:update", body=ClassBody),
)
RULES: tuple[Rule, ...] = (
    Rule(f"{_SETS}:show", PROJECT_READER_OR_ADMIN, "Show a project's quota", (("GET", _ONE),)),
    Rule(f"{_SETS}:defaults", ANY, "Show the quota of new projects", (("GET", f"{_ONE}/defaults"),)),
    Rule(f"{_SETS}:detail", PROJECT_READER_OR_ADMIN, "Show a quota and its use", (("GET", f"{_ONE}/detail"),)),
    Rule(f"{_SETS}:update", ADMIN, "Set a project's quota", (("PUT", _ONE),)),
    Rule(f"{_SETS}:delete", ADMIN, "Forget what was set for a project", (("DELETE", _ONE),)),
    Rule(f"{_CLASSES}:show", ADMIN, "Show a quota class", (("GET", _CLASS),)),
    Rule(f"{_CLASSES}:update", ADMIN, "Set a quota class", (("PUT", _CLASS),)),
)
