"""Access rules over HTTP: which requests an application credential allows. They are a user's and may be used again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

from kilonova.base.faults import forbidden, invalid
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.identity import answers, store
from kilonova.identity.application_credential import rule_store
from kilonova.identity.application_credential.rule_store import AccessRule
from kilonova.identity.rules import SYSTEM_OR_PROJECT, rule
from kilonova.identity.schema import access_rules
from kilonova.policy.personas import SYSTEM_ADMIN, SYSTEM_READER

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService


class AccessRuleBody(msgspec.Struct, forbid_unknown_fields=True):
    """One of a new credential's `access_rules`: the id of one that the user has, or a rule.

    In paths `*` and `{name}` stand for one part between slashes, `**` for any number of them.
    """

    id: str | None = None
    service: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    path: Annotated[str, Meta(pattern=r"^/", max_length=128)] | None = None
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] | None = None


async def chosen(service: IdentityService, user_id: str, bodies: list[AccessRuleBody]) -> list[AccessRule]:
    """The rules that a new credential names, those not there yet with new ids; to be written with it."""
    mine = await service.db.read(rule_store.listed, user_id)
    known = {(one.service, one.path, one.method): one for one in mine} | {(one.id,): one for one in mine}
    found: list[AccessRule] = []
    for body in bodies:
        if body.id is not None:
            if (body.id,) not in known:
                raise answers.missing("Access Rule", body.id)
            found.append(known[(body.id,)])
            continue
        if body.service is None or body.path is None or body.method is None:
            raise invalid(
                "Invalid input for field application_credential.access_rules: give service, path and method, or id."
            )
        new = AccessRule(service.world.ids.hex32(), user_id, body.service, body.path, body.method)
        found.append(known.setdefault((body.service, body.path, body.method), new))
    return list({one.id: one for one in found}.values())


def show_rule(request: Request[Any], one: AccessRule) -> dict[str, Any]:
    """A rule as clients see it."""
    shown = {"id": one.id, "service": one.service, "path": one.path, "method": one.method}
    shown["links"] = {"self": answers.link(request, "users", one.user_id, "access_rules", one.id)}  # type: ignore[assignment]
    return shown


def _target(request: Request[Any]) -> dict[str, Any]:
    user_id = request.path["user_id"]
    return {"user_id": user_id, "target": {"user": {"id": user_id}}}


async def list_(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """The user's access rules, by service, path or method."""
    request.enforce(_target(request))
    wanted = {name: request.query.get(name) for name in ("service", "path", "method")}
    found = await service.db.read(rule_store.listed, request.path["user_id"])
    seen = [one for one in found if all(v is None or getattr(one, name) == v for name, v in wanted.items())]
    return answers.collection(request, "access_rules", (show_rule(request, one) for one in seen))


async def _load(service: IdentityService, request: Request[Any]) -> AccessRule:
    request.enforce(_target(request))
    id_ = request.path["access_rule_id"]
    found = await service.db.read(store.get, access_rules, AccessRule, id_)
    if found is None or found.user_id != request.path["user_id"]:
        raise answers.missing("Access Rule", id_)
    return found


async def show(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """One access rule."""
    return {"access_rule": show_rule(request, await _load(service, request))}


async def delete(service: IdentityService, request: Request[None]) -> None:
    """The access rule, when no application credential has it."""
    found = await _load(service, request)
    if not await service.db.write(rule_store.delete_unused, found):
        raise forbidden("An access rule that an application credential has cannot be deleted.")


_PATH = "/v3/users/{user_id}/access_rules"
_ONE = f"{_PATH}/{{access_rule_id}}"
ROUTES: tuple[Route, ...] = (
    Route(method="GET", path=_PATH, handler=list_, policy="identity:list_access_rules"),
    Route(method="GET", path=_ONE, handler=show, policy="identity:get_access_rule"),
    Route(method="DELETE", path=_ONE, handler=delete, policy="identity:delete_access_rule", success=204),
)
_OWNER = "user_id:%(target.user.id)s"
RULES = (
    rule("get_access_rule", f"({SYSTEM_READER}) or {_OWNER}", SYSTEM_OR_PROJECT, ("GET", _ONE)),
    rule("list_access_rules", f"({SYSTEM_READER}) or {_OWNER}", SYSTEM_OR_PROJECT, ("GET", _PATH)),
    rule("delete_access_rule", f"({SYSTEM_ADMIN}) or {_OWNER}", SYSTEM_OR_PROJECT, ("DELETE", _ONE)),
)
