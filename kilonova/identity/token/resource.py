"""Tokens over HTTP: made, shown, checked, revoked; and what the holder of one may ask about itself."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from kilonova.base.faults import Fault, Kind
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.identity import answers
from kilonova.identity.contract import ACCESS_RULES_HEADER, ACCESS_RULES_VERSION, VERSION_HEADER
from kilonova.identity.domain.resource import DOMAINS
from kilonova.identity.project.resource import PROJECTS
from kilonova.identity.rules import ADMIN, ANYWHERE, rule
from kilonova.identity.token import login, revocation_store, scope_store
from kilonova.identity.token.bodies import Login
from kilonova.identity.token.validate import Validated

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService

_SUBJECT = f"{ADMIN} or rule:token_subject"
_READER = f"{ADMIN} or (role:reader and system_scope:all)"


async def show(service: IdentityService, request: Request[None]) -> Answer:
    """What the token in X-Subject-Token is worth."""
    known = await _subject(service, request, allow_expired=answers.is_true(request, "allow_expired"))
    body = known.short if "nocatalog" in request.query else known.full
    headers = {"X-Subject-Token": _token(request), "Vary": "X-Auth-Token", VERSION_HEADER: str(known.version)}
    return Answer(body, headers=headers)


async def check(service: IdentityService, request: Request[None]) -> Answer:
    """Only whether it is good."""
    await _subject(service, request, allow_expired=answers.is_true(request, "allow_expired"))
    return Answer(headers={"X-Subject-Token": _token(request), "Vary": "X-Auth-Token"})


async def revoke(service: IdentityService, request: Request[None]) -> None:
    """The token is good for nothing from now on, everywhere within a second."""
    known = await _subject(service, request, allow_expired=False)
    payload = known.payload
    await service.change(
        revocation_store.revoke,
        service.world.ids.hex32(),
        "token",
        payload.audit_ids[0],
        service.world.clock.now(),
        payload.expires_at + timedelta(seconds=service.settings.expired_token_grace_seconds),
    )


def _token(request: Request[Any]) -> str:
    return request.headers.get("x-subject-token", "")


async def _subject(service: IdentityService, request: Request[None], *, allow_expired: bool) -> Validated:
    token = _token(request)
    try:
        known = await service.tokens.validate(token, allow_expired=allow_expired)
    except Fault as fault:
        if fault.kind is not Kind.UNAUTHENTICATED:
            raise
        request.enforced = True  # a token that is none tells nobody anything: 404 for everyone, as its owner expects
        raise Fault(Kind.NOT_FOUND, "Could not find token.", inside=fault.inside) from None
    if known.caller.access_rules is not None and not _enforces_access_rules(request):
        request.enforced = True  # who does not enforce them must not believe the token
        raise Fault(Kind.NOT_FOUND, "Could not find token.", inside="the asker does not enforce access rules")
    user = known.info.user
    request.enforce({"target": {"token": {"user_id": user.id, "user": {"domain": {"id": user.domain.id}}}}})
    return known


def _enforces_access_rules(request: Request[Any]) -> bool:
    try:
        return float(request.headers.get(ACCESS_RULES_HEADER, "0")) >= ACCESS_RULES_VERSION
    except ValueError:
        return False


async def catalog(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """The catalog for the caller's own scope."""
    request.enforce({})
    known = await service.tokens.validate(request.caller.token, allow_expired=request.caller.is_service)
    if not known.info.catalog and known.payload.scope == "":
        raise Fault(Kind.FORBIDDEN, "The catalog is of a scope.", hint="Ask with a token that has one.")
    return answers.collection(request, "catalog", known.info.catalog or [])


async def projects(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """Projects that the caller could get a token for."""
    request.enforce({})
    found = await service.db.read(scope_store.projects_of, request.caller.user_id)
    return answers.collection(request, "projects", (PROJECTS.view(request, one) for one in found))


async def domains(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """Domains that the caller could get a token for."""
    request.enforce({})
    found = await service.db.read(scope_store.domains_of, request.caller.user_id)
    return answers.collection(request, "domains", (DOMAINS.view(request, one) for one in found))


async def system(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """Whether the caller could get a token for the whole system."""
    request.enforce({})
    may = await service.db.read(scope_store.has_system_role, request.caller.user_id)
    return {"system": [{"all": True}] if may else [], "links": {"self": answers.link(request, "auth", "system")}}


async def version(service: IdentityService, request: Request[None]) -> dict[str, int]:
    """A number that goes up whenever remembered tokens may be wrong: validators ask it instead of every token."""
    return {"version": await service.tokens.version()}


_TOKENS = "/v3/auth/tokens"
ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path=_TOKENS,
        handler=login.create,
        body=Login,
        envelope="auth",
        needs_token=False,
        open_because="who logs in has no token yet",
        success=201,
        summary="Log in",
    ),
    Route(method="GET", path=_TOKENS, handler=show, policy="identity:validate_token", agents=True),
    Route(method="HEAD", path=_TOKENS, handler=check, policy="identity:check_token", agents=True),
    Route(method="DELETE", path=_TOKENS, handler=revoke, policy="identity:revoke_token", success=204),
    Route(method="GET", path="/v3/auth/catalog", handler=catalog, policy="identity:get_auth_catalog"),
    Route(method="GET", path="/v3/auth/projects", handler=projects, policy="identity:get_auth_projects"),
    Route(method="GET", path="/v3/auth/domains", handler=domains, policy="identity:get_auth_domains"),
    Route(method="GET", path="/v3/auth/system", handler=system, policy="identity:get_auth_system"),
    Route(
        method="GET",
        path="/v3/kilonova/token_version",
        handler=version,
        needs_token=False,
        open_because="a counter says nothing about anybody, and validators have no token of their own",
    ),
)
RULES = (
    rule("check_token", f"{_READER} or rule:token_subject", ANYWHERE, ("HEAD", _TOKENS)),
    rule("validate_token", f"{_READER} or rule:service_role or rule:token_subject", ANYWHERE, ("GET", _TOKENS)),
    rule("revoke_token", _SUBJECT, ANYWHERE, ("DELETE", _TOKENS)),
    rule("get_auth_catalog", "", (), ("GET", "/v3/auth/catalog")),
    rule("get_auth_projects", "", (), ("GET", "/v3/auth/projects")),
    rule("get_auth_domains", "", (), ("GET", "/v3/auth/domains")),
    rule("get_auth_system", "", (), ("GET", "/v3/auth/system")),
)
