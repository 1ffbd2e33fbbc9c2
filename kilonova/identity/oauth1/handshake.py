"""How a consumer gets an access token: it asks (request token), the user agrees (verifier), it exchanges."""

from __future__ import annotations

import hmac
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import msgspec

from kilonova.base.clock import iso_micros_z
from kilonova.base.faults import Fault, Kind, invalid
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.identity import answers, store
from kilonova.identity.application_credential.resource import RoleName
from kilonova.identity.oauth1 import signature
from kilonova.identity.oauth1 import store as oauth_store
from kilonova.identity.oauth1.consumer import PREFIX, SECRET_BYTES
from kilonova.identity.oauth1.store import AccessToken, RequestToken
from kilonova.identity.project import store as project_store
from kilonova.identity.rules import ADMIN, rule
from kilonova.identity.schema import oauth_request_tokens
from kilonova.identity.token.delegated import may_manage_credentials, must_not_be_delegated
from kilonova.identity.token.roles_store import roles_of

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService

_SIGNED = "the consumer's signature says who asks"
_FORM = "application/x-www-form-urlencoded"


class Agreement(msgspec.Struct):
    """The body: roles that the consumer shall have."""

    roles: list[RoleName]


def _form(token_id: str, secret: str, expires_at: str) -> Answer:
    fields = {"oauth_token": token_id, "oauth_token_secret": secret, "oauth_expires_at": expires_at}
    return Answer(urlencode(fields, safe=":").encode(), content_type=_FORM)


async def request_token(service: IdentityService, request: Request[None]) -> Answer:
    """A token that a consumer shows to a user, so that the user agrees that it acts on a project."""
    signed = signature.read(request)
    await signature.check(service, signed, None, with_token=False)
    project_id = request.headers.get("requested-project-id", "")
    if not project_id:
        raise invalid("The header Requested-Project-Id is missing: it says on which project the consumer would act.")
    if await service.db.read(project_store.get, project_id) is None:
        raise answers.missing("project", project_id)
    secret = service.world.ids.secret(SECRET_BYTES)
    expires_at = service.world.clock.now() + timedelta(seconds=service.settings.oauth_request_lifetime_seconds)
    sealed = service.sealer.seal({"secret": secret})
    made = RequestToken(service.world.ids.hex32(), signed.consumer_id, sealed, project_id, expires_at)
    await service.db.write(store.insert, oauth_request_tokens, made, "The request token exists already.")
    return _form(made.id, secret, iso_micros_z(expires_at))


async def authorize(service: IdentityService, request: Request[Agreement]) -> dict[str, Any]:
    """The caller agrees that the consumer acts for it, with some roles that it has on the project."""
    request.enforce({})
    token = await service.tokens.validate(request.caller.token)
    may_manage_credentials(token)
    must_not_be_delegated(token, "authorize others")
    wish = await service.db.read(oauth_store.find_request, request.path["request_token_id"])
    if wish is None or wish.expires_at <= service.world.clock.now():
        raise answers.missing("request token", request.path["request_token_id"])
    user_id = request.caller.user_id
    held = {role.id: role.name for role in await service.db.read(roles_of, user_id, "project", wish.project_id)}
    role_ids = _agreed(request.body.roles, held)
    verifier = service.world.ids.secret(16)
    if not await service.db.write(oauth_store.authorize, wish.id, user_id, verifier, role_ids):
        raise answers.missing("request token", wish.id)
    return {"token": {"oauth_verifier": verifier}}


def _agreed(asked: list[RoleName], held: dict[str, str]) -> list[str]:
    """Ids of the roles, all of which the user holds: whoever lacks one cannot lend it."""
    if not asked:
        raise invalid("Invalid input for field roles: at least one role is necessary.")
    by_name = {name: id_ for id_, name in held.items()}
    found = []
    for role in asked:
        id_ = role.id or by_name.get(role.name, "")
        if id_ not in held:
            sentence = f"You do not have role {(role.id or role.name)[:64]!r} on the project."
            raise Fault(Kind.UNAUTHENTICATED, sentence, hint="Authorize roles that you have there.")
        found.append(id_)
    return list(dict.fromkeys(found))


async def access_token(service: IdentityService, request: Request[None]) -> Answer:
    """The token that the consumer logs in with, for a request token that a user agreed to. Once."""
    signed = signature.read(request)
    wish = await service.db.read(oauth_store.find_request, signed.token_id)
    known = wish if wish is not None and wish.consumer_id == signed.consumer_id else None
    await signature.check(service, signed, known.sealed if known else None, with_token=True)
    now = service.world.clock.now()
    verifier = signed.said.get("oauth_verifier", "")
    if known is None or known.user_id is None or known.verifier is None or known.expires_at <= now:
        raise signature.refused("the request token has expired, or nobody agreed to it")
    if not hmac.compare_digest(known.verifier.encode(), verifier.encode()):
        raise signature.refused("wrong verifier")
    secret, id_ = service.world.ids.secret(SECRET_BYTES), service.world.ids.hex32()
    expires_at = now + timedelta(seconds=service.settings.oauth_access_lifetime_seconds)
    sealed = service.sealer.seal({"secret": secret})
    made = AccessToken(id_, known.consumer_id, sealed, known.user_id, known.project_id, known.role_ids, expires_at)
    if not await service.db.write(oauth_store.exchange, known.id, made):
        raise signature.refused("the request token was exchanged before")
    return _form(id_, secret, iso_micros_z(expires_at))


_AUTHORIZE = f"{PREFIX}/authorize/{{request_token_id}}"
ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path=f"{PREFIX}/request_token",
        handler=request_token,
        needs_token=False,
        open_because=_SIGNED,
        success=201,
    ),
    Route(method="PUT", path=_AUTHORIZE, handler=authorize, policy="identity:authorize_request_token", body=Agreement),
    Route(
        method="POST",
        path=f"{PREFIX}/access_token",
        handler=access_token,
        needs_token=False,
        open_because=_SIGNED,
        success=201,
    ),
)
RULES = (rule("authorize_request_token", ADMIN, ("project",), ("PUT", _AUTHORIZE)),)
