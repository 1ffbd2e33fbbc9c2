"""EC2 credentials over HTTP: pairs of access key and secret that a user makes for itself, one project each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from kilonova.base.faults import forbidden
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.identity import answers, store
from kilonova.identity.credential import blob as blobs
from kilonova.identity.credential import store as credential_store
from kilonova.identity.credential.blob import EC2
from kilonova.identity.credential.resource import owned
from kilonova.identity.credential.store import Credential
from kilonova.identity.project import store as project_store
from kilonova.identity.rules import ADMIN, READER, SYSTEM_OR_PROJECT, rule
from kilonova.identity.schema import credentials
from kilonova.identity.token.delegated import may_manage_credentials
from kilonova.identity.user.resource import USERS

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService


class CreateEc2(msgspec.Struct):
    """The body: the project that the keys are for."""

    tenant_id: str


def _view(service: IdentityService, request: Request[Any], one: Credential) -> dict[str, Any]:
    keys = blobs.keys_in(blobs.blob_of(service, one))
    return {
        "user_id": one.user_id,
        "tenant_id": one.project_id,
        "access": keys["access"],
        "secret": keys["secret"],
        "trust_id": keys.get("trust_id"),
        "links": {"self": answers.link(request, "users", one.user_id, "credentials", "OS-EC2", keys["access"])},
    }


async def create(service: IdentityService, request: Request[CreateEc2]) -> dict[str, Any]:
    """A new pair of keys, limited to what the token delegates when it does."""
    user_id, project_id = request.path["user_id"], request.body.tenant_id
    request.enforce({"user_id": user_id, "target": {"credential": {"user_id": user_id}}})
    token = await service.tokens.validate(request.caller.token)
    may_manage_credentials(token)
    if await USERS.find(service, user_id) is None:
        raise answers.missing("user", user_id)
    if await service.db.read(project_store.get, project_id) is None:
        raise answers.missing("project", project_id)
    limits = blobs.delegations(token.payload)
    if limits and project_id != token.payload.scope_id:
        raise forbidden("Keys made by delegation are for the project of the delegation.")
    access = service.world.ids.hex32()
    keys = {"access": access, "secret": service.world.ids.secret(32)} | limits
    hashed = blobs.access_hash(access)
    sealed = blobs.seal(service, msgspec.json.encode(keys).decode())
    made = Credential(hashed, user_id, project_id, EC2, sealed, hashed)
    await service.db.write(store.insert, credentials, made, "Conflict: the access key exists already.")
    return {"credential": _view(service, request, made)}


async def list_(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """The user's keys."""
    user_id = request.path["user_id"]
    request.enforce({"user_id": user_id})
    if await USERS.find(service, user_id) is None:
        raise answers.missing("user", user_id)
    token = await service.tokens.validate(request.caller.token)
    found = await service.db.read(credential_store.listed, user_id, EC2)
    seen = (_view(service, request, one) for one in found if blobs.reaches(service, token, one))
    return answers.collection(request, "credentials", seen)


async def _load(service: IdentityService, request: Request[Any]) -> Credential:
    access = request.path["access"]
    found = await service.db.read(credential_store.find, blobs.access_hash(access))
    if found is None or found.type != EC2:  # an access key is too long to be guessed
        raise answers.missing("credential", access)
    request.enforce(owned("", found))  # whose it is, whatever the path says
    blobs.check_reach(service, await service.tokens.validate(request.caller.token), found)
    return found


async def show(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """One pair of keys."""
    return {"credential": _view(service, request, await _load(service, request))}


async def delete(service: IdentityService, request: Request[None]) -> None:
    """The keys, and all tokens got with them."""
    found = await _load(service, request)
    may_manage_credentials(await service.tokens.validate(request.caller.token))
    await service.change(store.remove, credentials, found.id)


_PATH = "/v3/users/{user_id}/credentials/OS-EC2"
_ONE = f"{_PATH}/{{access}}"
ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path=_PATH,
        handler=create,
        policy="identity:ec2_create_credential",
        body=CreateEc2,
        success=201,
    ),
    Route(method="GET", path=_PATH, handler=list_, policy="identity:ec2_list_credentials"),
    Route(method="GET", path=_ONE, handler=show, policy="identity:ec2_get_credential"),
    Route(method="DELETE", path=_ONE, handler=delete, policy="identity:ec2_delete_credential", success=204),
)
_OWNER = "user_id:%(target.credential.user_id)s"
RULES = (
    rule("ec2_get_credential", f"({READER}) or {_OWNER}", SYSTEM_OR_PROJECT, ("GET", _ONE)),
    rule("ec2_list_credentials", f"({READER}) or rule:owner", SYSTEM_OR_PROJECT, ("GET", _PATH)),
    rule("ec2_create_credential", f"{ADMIN} or (role:member and rule:owner)", SYSTEM_OR_PROJECT, ("POST", _PATH)),
    rule("ec2_delete_credential", f"{ADMIN} or {_OWNER}", SYSTEM_OR_PROJECT, ("DELETE", _ONE)),
)
