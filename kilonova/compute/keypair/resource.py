"""Key pairs over HTTP. They belong to a user, not to a project; operators may name another user from 2.10 on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from kilonova.base.clock import iso_micros
from kilonova.base.faults import Fault, Kind, forbidden, invalid
from kilonova.compute.core import Compute
from kilonova.compute.keypair import store
from kilonova.compute.keypair.store import KeyPair
from kilonova.compute.values import printable_name
from kilonova.db.listing import Page
from kilonova.http.fields import Field, View
from kilonova.http.listing import next_links
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.http.schema import since
from kilonova.policy.personas import ADMIN
from kilonova.policy.rules import Rule

if TYPE_CHECKING:
    from kilonova.compute.keypair.keys import Made

PAGE_MAXIMUM = 1000
_OLD_NAME = re.compile(r"[a-zA-Z0-9 _-]+\Z")
_NAME = re.compile(r"[a-zA-Z0-9 _.@-]+\Z")


class CreateKeyPair(msgspec.Struct, forbid_unknown_fields=True):
    """The body's `keypair`. Without a public key one is made, up to 2.91."""

    name: str
    public_key: str | None = None
    type: Annotated[Literal["ssh", "x509"], since("2.2")] = "ssh"
    user_id: Annotated[str | None, since("2.10")] = None


_BRIEF: View[KeyPair] = View(
    Field("name", lambda k: k.name),
    Field("public_key", lambda k: k.public_key),
    Field("fingerprint", lambda k: k.fingerprint),
    Field("type", lambda k: k.type, since="2.2"),
)
_FULL: View[KeyPair] = View(
    Field("id", lambda k: k.id),
    Field("name", lambda k: k.name),
    Field("public_key", lambda k: k.public_key),
    Field("fingerprint", lambda k: k.fingerprint),
    Field("type", lambda k: k.type, since="2.2"),
    Field("user_id", lambda k: k.user_id),
    Field("created_at", lambda k: iso_micros(k.created_at)),
    Field("updated_at", lambda k: None),  # a key pair never changes
    Field("deleted", lambda k: False),
    Field("deleted_at", lambda k: None),
)


def _owner(request: Request[Any], given: str | None) -> str:
    """Whose key pairs: the caller's, or those of the user an operator names. Enforces the route's rule."""
    user_id = given if given and request.version >= (2, 10) else request.caller.user_id
    request.enforce({"user_id": user_id, "project_id": request.caller.project_id})
    return user_id


def _page(request: Request[Any]) -> Page:
    if request.version < (2, 35):
        return Page()
    limit = request.query.integer("limit")
    return Page(PAGE_MAXIMUM if limit is None else min(limit, PAGE_MAXIMUM), request.query.get("marker") or None)


async def index(compute: Compute, request: Request[None]) -> dict[str, Any]:
    """The user's key pairs by name; in pages from 2.35 on."""
    user_id = _owner(request, request.query.get("user_id"))
    page = _page(request)
    found = await compute.db.read(store.listed, user_id, page)
    shown = {"keypairs": [{"keypair": _BRIEF.show(request.version, one)} for one in found]}
    return shown if request.version < (2, 35) else shown | next_links(request, "keypairs", found, page, _name_of)


def _name_of(pair: KeyPair) -> str:
    return pair.name


async def show(compute: Compute, request: Request[None]) -> dict[str, Any]:
    """One key pair."""
    user_id = _owner(request, request.query.get("user_id"))
    pair = await compute.db.read(store.get_keypair, user_id, request.path["name"])
    return {"keypair": _FULL.show(request.version, pair)}


def checked_name(name: str, *, dotted: bool) -> str:
    """A name of letters, digits, space, `-` and `_`, from 2.92 on also `.` and `@`."""
    printable_name(name, "name")
    if not (_NAME if dotted else _OLD_NAME).match(name):
        allowed = "[@._- ]" if dotted else "[_- ]"
        raise invalid(
            f"Keypair data is invalid: Keypair name contains unsafe characters: {name[:80]!r}.",
            hint=f"Use letters, digits and {allowed}.",
            code="InvalidKeypair",
        )
    return name


async def create(compute: Compute, request: Request[CreateKeyPair]) -> Answer:
    """A key pair, from the user's public key or made here; a private key is in this answer and nowhere else."""
    body = request.body
    user_id = _owner(request, body.user_id)
    name = checked_name(body.name, dotted=request.version >= (2, 92))
    made = await _key(compute, request, user_id)
    now = compute.world.clock.now()
    pair = KeyPair(0, user_id, name, body.type, made.fingerprint, made.public_key, now)
    try:
        await compute.db.write(store.insert, pair, request.caller.project_id)
    except Fault as fault:
        if fault.kind is Kind.OVER_QUOTA:
            raise forbidden("Quota exceeded, too many key pairs.", hint="Delete one first.", code="OverQuota") from None
        raise
    shown = {**_BRIEF.show(request.version, pair), "user_id": user_id}
    if made.private_key:
        shown["private_key"] = made.private_key
    return Answer({"keypair": shown}, 201 if request.version >= (2, 2) else 200)


async def _key(compute: Compute, request: Request[CreateKeyPair], user_id: str) -> Made:
    from kilonova.compute.keypair import keys  # X.509 and SSH keys: only where they are made or read

    body, world = request.body, compute.world
    if body.public_key is not None:
        return await world.blocking(keys.read, body.type, body.public_key)
    if request.version >= (2, 92):
        raise invalid(
            "Invalid input for field/attribute keypair: 'public_key' is a required property.",
            hint="Make a key with ssh-keygen and send its public half.",
        )
    if body.type == "x509":
        return await world.blocking(keys.make_x509, user_id, request.caller.project_id, world.clock.now())
    return await world.blocking(keys.make_ssh)


async def delete(compute: Compute, request: Request[None]) -> Answer:
    """The key pair is gone; servers that were made with it keep the key."""
    user_id = _owner(request, request.query.get("user_id"))
    await compute.db.write(store.delete, user_id, request.path["name"])
    return Answer(None, 204 if request.version >= (2, 2) else 202)


_RULE = "os_compute_api:os-keypairs"
_CHECK = f"({ADMIN}) or user_id:%(user_id)s"
_ALL, _ONE = "/os-keypairs", "/os-keypairs/{name}"
ROUTES: tuple[Route, ...] = (
    Route(method="GET", path=_ALL, handler=index, policy=f"{_RULE}:index"),
    Route(method="POST", path=_ALL, handler=create, policy=f"{_RULE}:create", body=CreateKeyPair, envelope="keypair"),
    Route(method="GET", path=_ONE, handler=show, policy=f"{_RULE}:show"),
    Route(method="DELETE", path=_ONE, handler=delete, policy=f"{_RULE}:delete"),
)
RULES: tuple[Rule, ...] = (
    Rule(f"{_RULE}:index", _CHECK, "List a user's key pairs", (("GET", _ALL),)),
    Rule(f"{_RULE}:create", _CHECK, "Create or import a key pair", (("POST", _ALL),)),
    Rule(f"{_RULE}:show", _CHECK, "Show a key pair", (("GET", _ONE),)),
    Rule(f"{_RULE}:delete", _CHECK, "Delete a key pair", (("DELETE", _ONE),)),
)
