"""Application credentials over HTTP. The secret is shown once, and kept as a hash only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from kilonova.base.clock import iso_micros
from kilonova.base.faults import invalid
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.identity import answers, store
from kilonova.identity.application_credential import access_rule, rule_store
from kilonova.identity.application_credential import store as credential_store
from kilonova.identity.application_credential.rule_store import AccessRule
from kilonova.identity.application_credential.store import ApplicationCredential, NewCredential
from kilonova.identity.bodies import moment_of
from kilonova.identity.names import checked_name
from kilonova.identity.role.store import Role
from kilonova.identity.rules import ADMIN, READER, SYSTEM_OR_PROJECT, rule
from kilonova.identity.schema import application_credentials, roles
from kilonova.identity.token.delegated import may_manage_credentials, must_not_be_delegated

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService


class RoleName(msgspec.Struct):
    """A role by id or name."""

    id: str = ""
    name: str = ""


class CreateCredential(msgspec.Struct):
    """The body's `application_credential`. Without roles it gets all of the token's; without secret we make one."""

    name: str
    secret: str | None = None
    description: str | None = None
    expires_at: str | None = None
    roles: list[RoleName] = []
    unrestricted: bool = False
    access_rules: list[access_rule.AccessRuleBody] = []
    project_id: str | None = None


class Known(msgspec.Struct):
    """What credentials refer to by id: roles, and the user's access rules."""

    roles: dict[str, Role]
    rules: dict[str, AccessRule]


def _show(request: Request[Any], one: ApplicationCredential, all_known: Known) -> dict[str, Any]:
    known = all_known.roles
    shown: dict[str, Any] = {
        "id": one.id,
        "name": one.name,
        "description": one.description,
        "project_id": one.project_id,
        "roles": [
            {"id": id_, "name": known[id_].name, "domain_id": known[id_].domain_id or None}
            for id_ in one.role_ids
            if id_ in known
        ],
        "unrestricted": one.unrestricted,
        "expires_at": iso_micros(one.expires_at) if one.expires_at else None,
        "system": None,
    }
    rules = [all_known.rules[id_] for id_ in one.access_rule_ids or () if id_ in all_known.rules]
    if rules:
        shown["access_rules"] = [
            {"id": rule.id, "service": rule.service, "path": rule.path, "method": rule.method} for rule in rules
        ]
    shown["links"] = {"self": answers.link(request, "users", one.user_id, "application_credentials", one.id)}
    return shown


async def _known(service: IdentityService, user_id: str) -> Known:
    return Known(
        {role.id: role for role in await service.db.read(store.listed, roles, Role)},
        {one.id: one for one in await service.db.read(rule_store.listed, user_id)},
    )


async def create(service: IdentityService, request: Request[CreateCredential]) -> dict[str, Any]:
    """A new application credential for the caller's own user, on the token's project."""
    user_id, body = request.path["user_id"], request.body
    request.enforce({"user_id": user_id})
    token = await service.tokens.validate(request.caller.token)
    may_manage_credentials(token)
    must_not_be_delegated(token, "make application credentials")
    if not token.info.project:
        raise invalid("An application credential is for a project.", hint="Ask with a token of project scope.")
    name = checked_name(body.name, "application_credential.name")
    now = service.world.clock.now()
    expires_at = moment_of(body.expires_at, "application_credential.expires_at") if body.expires_at else None
    if expires_at is not None and expires_at <= now:
        raise invalid("Invalid input for field application_credential.expires_at: it has passed.")
    secret = body.secret or service.world.ids.secret(64)
    one = NewCredential(
        service.world.ids.hex32(),
        user_id,
        token.info.project.id,
        name,
        body.description,
        _role_ids(body.roles, {role.id: role.name for role in token.info.roles or ()}),
        body.unrestricted,
        expires_at,
        secret_hash=await service.passwords.hash_secret(secret),
    )
    taken = f"Conflict occurred attempting to store application_credential - Duplicate entry found with name {name}."
    rules = await access_rule.chosen(service, user_id, body.access_rules)
    await service.db.write(credential_store.insert, one, rules, taken)
    shown = _show(request, one, await _known(service, user_id))
    return {"application_credential": shown | {"secret": secret}}


def _role_ids(wanted: list[RoleName], held: dict[str, str]) -> list[str]:
    """Ids of the wanted roles; all that the token holds when none is named. INVALID for one it does not hold."""
    if not wanted:
        return sorted(held)
    by_name = {name: id_ for id_, name in held.items()}
    found = []
    for role in wanted:
        id_ = role.id or by_name.get(role.name, "")
        if id_ not in held:
            raise invalid(
                f"Invalid application credential: role {role.id or role.name!r} is not one of the token's.",
                hint=f"The token holds {', '.join(sorted(by_name))}.",
            )
        found.append(id_)
    return found


async def list_(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """The user's application credentials, without their secrets."""
    user_id = request.path["user_id"]
    request.enforce({"user_id": user_id})
    found = await service.db.read(credential_store.listed, user_id, request.query.get("name"))
    known = await _known(service, user_id)
    return answers.collection(request, "application_credentials", (_show(request, one, known) for one in found))


async def _load(service: IdentityService, request: Request[Any]) -> ApplicationCredential:
    user_id, id_ = request.path["user_id"], request.path["credential_id"]
    found = await service.db.read(store.get, application_credentials, ApplicationCredential, id_)
    request.enforce({"user_id": found.user_id if found else user_id})  # whose it is, whatever the path says
    if found is None or found.user_id != user_id:
        raise answers.missing("Application Credential", id_)
    return found


async def show(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """One application credential, without its secret."""
    found = await _load(service, request)
    return {"application_credential": _show(request, found, await _known(service, found.user_id))}


async def delete(service: IdentityService, request: Request[None]) -> None:
    """The application credential and all tokens got with it."""
    found = await _load(service, request)
    token = await service.tokens.validate(request.caller.token)
    may_manage_credentials(token)
    must_not_be_delegated(token, "delete application credentials")
    await service.change(store.remove, application_credentials, found.id)


_PATH = "/v3/users/{user_id}/application_credentials"
_ONE = f"{_PATH}/{{credential_id}}"
ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path=_PATH,
        handler=create,
        policy="identity:create_application_credential",
        body=CreateCredential,
        envelope="application_credential",
        success=201,
    ),
    Route(method="GET", path=_PATH, handler=list_, policy="identity:list_application_credentials"),
    Route(method="GET", path=_ONE, handler=show, policy="identity:get_application_credential"),
    Route(method="DELETE", path=_ONE, handler=delete, policy="identity:delete_application_credential", success=204),
    *access_rule.ROUTES,
)
RULES = (
    rule("get_application_credential", f"{READER} or rule:owner", SYSTEM_OR_PROJECT, ("GET", _ONE)),
    rule("list_application_credentials", f"{READER} or rule:owner", SYSTEM_OR_PROJECT, ("GET", _PATH)),
    rule("create_application_credential", "user_id:%(user_id)s", ("project",), ("POST", _PATH)),
    rule("delete_application_credential", f"{ADMIN} or rule:owner", SYSTEM_OR_PROJECT, ("DELETE", _ONE)),
    *access_rule.RULES,
)
