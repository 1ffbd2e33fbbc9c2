"""Access tokens over HTTP, seen by the user who gave them; and the login with one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kilonova.base.clock import iso_micros_z
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.identity import answers, store
from kilonova.identity.oauth1 import signature
from kilonova.identity.oauth1 import store as oauth_store
from kilonova.identity.oauth1.store import AccessToken
from kilonova.identity.role.resource import show_role
from kilonova.identity.role.store import Role
from kilonova.identity.rules import ADMIN, SYSTEM_OR_PROJECT, rule
from kilonova.identity.schema import oauth_access_tokens, roles
from kilonova.identity.token.delegated import may_manage_credentials, must_not_be_delegated
from kilonova.identity.token.scoping import Proof

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService

_PATH = "/v3/users/{user_id}/OS-OAUTH1/access_tokens"
_ONE = f"{_PATH}/{{access_token_id}}"


def _view(request: Request[Any], one: AccessToken) -> dict[str, Any]:
    path = ("users", one.user_id, "OS-OAUTH1", "access_tokens", one.id)
    return {
        "id": one.id,
        "consumer_id": one.consumer_id,
        "authorizing_user_id": one.user_id,
        "project_id": one.project_id,
        "expires_at": iso_micros_z(one.expires_at),
        "links": {"self": answers.link(request, *path), "roles": answers.link(request, *path, "roles")},
    }


async def _own(service: IdentityService, request: Request[Any]) -> None:
    """The caller may; and not with a token that somebody lent."""
    request.enforce({"user_id": request.path["user_id"]})
    must_not_be_delegated(await service.tokens.validate(request.caller.token), "see whom you authorized")


async def _load(service: IdentityService, request: Request[Any]) -> AccessToken:
    await _own(service, request)
    found = await service.db.read(oauth_store.find_access, request.path["access_token_id"])
    gone = found is None or found.expires_at <= service.world.clock.now()
    if found is None or gone or found.user_id != request.path["user_id"]:
        raise answers.missing("access token", request.path["access_token_id"])
    return found


async def list_(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """Access tokens that the user gave."""
    await _own(service, request)
    found = await service.db.read(oauth_store.access_of, request.path["user_id"])
    now = service.world.clock.now()
    return answers.collection(request, "access_tokens", (_view(request, one) for one in found if one.expires_at > now))


async def show(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """One of them, without its secret."""
    return {"access_token": _view(request, await _load(service, request))}


async def _roles(service: IdentityService, request: Request[Any]) -> list[Role]:
    found = await _load(service, request)
    return await service.db.read(store.listed, roles, Role, ids=found.role_ids)


async def list_roles(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """Roles that it lends."""
    found = await _roles(service, request)
    return answers.collection(request, "roles", (show_role(request, role) for role in found))


async def show_role_of(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """Whether it lends the role."""
    for role in await _roles(service, request):
        if role.id == request.path["role_id"]:
            return {"role": show_role(request, role)}
    raise answers.missing("role", request.path["role_id"])


async def delete(service: IdentityService, request: Request[None]) -> None:
    """The access token, and all tokens got with it."""
    found = await _load(service, request)
    may_manage_credentials(await service.tokens.validate(request.caller.token))
    await service.change(store.remove, oauth_access_tokens, found.id)


async def prove(service: IdentityService, request: Request[Any]) -> Proof:
    """The user whose access token signed the login. UNAUTHENTICATED when none did."""
    signed = signature.read(request)
    found = await service.db.read(oauth_store.find_access, signed.token_id)
    known = found if found is not None and found.consumer_id == signed.consumer_id else None
    await signature.check(service, signed, known.sealed if known else None, with_token=True)
    if known is None or known.expires_at <= service.world.clock.now():
        raise signature.refused("the access token has expired")
    return Proof(known.user_id, {"oauth1"}, access_token=known)


async def prune_oauth(service: IdentityService) -> int:
    """Forget expired tokens and signatures; how many went."""
    return await service.db.write(oauth_store.prune, service.world.clock.now())


_ROLES = f"{_ONE}/roles"
_ROLE = f"{_ROLES}/{{role_id}}"
ROUTES: tuple[Route, ...] = (
    Route(method="GET", path=_PATH, handler=list_, policy="identity:list_access_tokens"),
    Route(method="GET", path=_ONE, handler=show, policy="identity:get_access_token"),
    Route(method="DELETE", path=_ONE, handler=delete, policy="identity:delete_access_token", success=204),
    Route(method="GET", path=_ROLES, handler=list_roles, policy="identity:list_access_token_roles"),
    Route(method="GET", path=_ROLE, handler=show_role_of, policy="identity:get_access_token_role"),
)
RULES = (
    rule("list_access_tokens", ADMIN, ("project",), ("GET", _PATH)),
    rule("get_access_token", ADMIN, ("project",), ("GET", _ONE)),
    rule("delete_access_token", ADMIN, ("project",), ("DELETE", _ONE)),
    rule("list_access_token_roles", ADMIN, SYSTEM_OR_PROJECT, ("GET", _ROLES)),
    rule("get_access_token_role", ADMIN, SYSTEM_OR_PROJECT, ("GET", _ROLE)),
)
