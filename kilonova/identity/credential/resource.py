"""Credentials over HTTP. A user sees and changes its own; their blobs are sealed in the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, UnsetType

from kilonova.base.faults import forbidden, invalid
from kilonova.http.request import Request
from kilonova.identity import answers, store
from kilonova.identity.bodies import given
from kilonova.identity.credential import blob as blobs
from kilonova.identity.credential import store as credential_store
from kilonova.identity.credential.blob import EC2
from kilonova.identity.credential.store import Credential
from kilonova.identity.noun import Noun, Target
from kilonova.identity.rules import ADMIN, ANYWHERE, READER
from kilonova.identity.schema import credentials
from kilonova.identity.token.delegated import may_manage_credentials
from kilonova.identity.token.totp import TOTP, secret_of
from kilonova.identity.user.resource import USERS

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService

BLOB_CHARACTERS = 65_536


class CreateCredential(msgspec.Struct):
    """The body's `credential`."""

    blob: str
    type: str
    user_id: str | None = None
    project_id: str | None = None


class UpdateCredential(msgspec.Struct):
    """The body's `credential`: what is left out stays."""

    blob: str | UnsetType = UNSET
    type: str | UnsetType = UNSET
    user_id: str | UnsetType = UNSET
    project_id: str | UnsetType | None = UNSET


def owned(name: str, credential: Credential | None) -> Target:
    """The target of rules that ask whose it is."""
    return {"target": {"credential": {"user_id": credential.user_id}}} if credential else {}


CREDENTIALS = Noun("credential", credentials, Credential, target=owned)


def _body(service: IdentityService, request: Request[Any], one: Credential) -> dict[str, Any]:
    return {"credential": _view(service, request, one)}


def _view(service: IdentityService, request: Request[Any], one: Credential) -> dict[str, Any]:
    shown = {"id": one.id, "user_id": one.user_id, "project_id": one.project_id, "type": one.type}
    return answers.linked(request, "credentials", shown | {"blob": blobs.blob_of(service, one)})


def checked_blob(blob: str) -> str:
    """`blob` when it is not too long."""
    if len(blob) > BLOB_CHARACTERS:
        raise invalid(f"Invalid input for field credential.blob: it is longer than {BLOB_CHARACTERS} characters.")
    return blob


async def create(service: IdentityService, request: Request[CreateCredential]) -> dict[str, Any]:
    """A new credential; EC2 keys made with a delegated token are limited to what it delegates."""
    body = request.body
    user_id = body.user_id or request.caller.user_id
    request.enforce({"target": {"credential": {"user_id": user_id}}})
    token = await service.tokens.validate(request.caller.token)
    may_manage_credentials(token)
    await USERS.named(service, user_id, "credential.user_id")
    blob, id_ = checked_blob(body.blob), service.world.ids.hex32()
    if body.type == TOTP:
        secret_of(blob)
        if blobs.delegations(token.payload):
            raise forbidden("Passcodes log in as the whole user: make them with a token of your own.")
    if body.type == EC2:
        if not body.project_id:
            raise invalid("Invalid input for field credential.project_id: an EC2 credential needs a project.")
        keys = blobs.keys_in(blob)
        limited = {key: value for key, value in keys.items() if key not in blobs.DELEGATIONS}
        blob = msgspec.json.encode(limited | blobs.delegations(token.payload)).decode()
        id_ = blobs.access_hash(str(keys["access"]))
    sealed, hashed = blobs.seal(service, blob), id_ if body.type == EC2 else None
    made = Credential(id_, user_id, body.project_id, body.type[:255], sealed, hashed)
    taken = "Conflict occurred attempting to store credential - Duplicate entry."
    await service.db.write(store.insert, credentials, made, taken)
    return _body(service, request, made)


async def _load(service: IdentityService, request: Request[Any]) -> Credential:
    found = await CREDENTIALS.load(service, request)
    blobs.check_reach(service, await service.tokens.validate(request.caller.token), found)
    return found


async def show(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """One credential with its blob."""
    return _body(service, request, await _load(service, request))


async def list_(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """Credentials that the caller may see, by `user_id` and `type`."""
    request.enforce({"target": {"credential": {"user_id": request.caller.user_id}}})
    query = request.query
    found = await service.db.read(credential_store.listed, query.get("user_id") or "", query.get("type") or "")
    token = await service.tokens.validate(request.caller.token)
    seen = [
        one
        for one in found
        if request.allows("identity:get_credential", owned("", one)) and blobs.reaches(service, token, one)
    ]
    return answers.collection(request, "credentials", (_view(service, request, one) for one in seen))


async def update(service: IdentityService, request: Request[UpdateCredential]) -> dict[str, Any]:
    """Change some of a credential, which may be given to others only by who may make credentials for them."""
    found = await _load(service, request)
    changes = given(request.body)
    changed = msgspec.structs.replace(found, **{key: value for key, value in changes.items() if key != "blob"})
    request.enforce(owned("", changed))
    may_manage_credentials(await service.tokens.validate(request.caller.token))
    if changed.user_id != found.user_id:
        await USERS.named(service, changed.user_id, "credential.user_id")
    blob = _changed_blob(service, found, changed, changes.pop("blob", UNSET))
    changed.sealed = blobs.seal(service, blob)
    changed.access_hash = blobs.access_hash(str(blobs.keys_in(blob)["access"])) if changed.type == EC2 else None
    written = {key: getattr(changed, key) for key in ("user_id", "project_id", "type", "sealed", "access_hash")}
    taken = "Conflict occurred attempting to store credential - Duplicate entry."
    await service.change(store.change, credentials, found.id, written, taken)
    return _body(service, request, changed)


def _changed_blob(service: IdentityService, found: Credential, changed: Credential, new: str | UnsetType) -> str:
    """The blob to store. EC2 keys stay limited to what they were delegated."""
    old = blobs.blob_of(service, found)
    blob = old if isinstance(new, UnsetType) else checked_blob(new)
    if changed.type == TOTP:
        secret_of(blob)
    if EC2 not in (found.type, changed.type):
        return blob
    if not changed.project_id:
        raise invalid("Invalid input for field credential.project_id: an EC2 credential needs a project.")
    keys = blobs.keys_in(blob)
    if found.type != EC2:
        raise invalid("Invalid input for field credential.type: keys of type ec2 are made, not changed into.")
    before = blobs.keys_in(old)
    bound = {name: before[name] for name in blobs.DELEGATIONS if name in before}
    if any(name in keys and keys[name] != before.get(name) for name in blobs.DELEGATIONS):
        raise invalid(f"Invalid input for field credential.blob: {', '.join(blobs.DELEGATIONS)} cannot be changed.")
    if bound and (changed.user_id, changed.project_id, changed.type) != (found.user_id, found.project_id, EC2):
        raise forbidden("A credential made by delegation stays with its user and project.")
    return msgspec.json.encode(keys | bound).decode()


async def delete(service: IdentityService, request: Request[None]) -> None:
    """The credential."""
    found = await _load(service, request)
    may_manage_credentials(await service.tokens.validate(request.caller.token))
    await service.change(store.remove, credentials, found.id)


ROUTES = CREDENTIALS.routes(create, update, (CreateCredential, UpdateCredential), show=show, list_=list_, delete=delete)
_OWNER = "user_id:%(target.credential.user_id)s"
RULES = CREDENTIALS.rules(f"({READER}) or {_OWNER}", f"{ADMIN} or {_OWNER}", ANYWHERE)
