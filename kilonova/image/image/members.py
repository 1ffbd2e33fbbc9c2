"""Sharing: an image's members, added by its owner, accepted or rejected by the member."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from kilonova.base.clock import iso_seconds
from kilonova.base.faults import forbidden, invalid, not_found
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.image.core import ImageService
from kilonova.image.image import store
from kilonova.image.image.resource import OWNER, READ, owned, seen, target
from kilonova.image.image.store import Image, Member
from kilonova.policy.rules import Rule


class AddMember(msgspec.Struct, forbid_unknown_fields=True):
    """Which project."""

    member: str


class SetStatus(msgspec.Struct):
    """What the member thinks. openstacksdk sends the member's id along; the path has it already."""

    status: Literal["pending", "accepted", "rejected"]


def view(member: Member) -> dict[str, Any]:
    """A member as clients see it."""
    return {
        "image_id": member.image_id,
        "member_id": member.member_id,
        "status": member.status,
        "created_at": iso_seconds(member.created_at),
        "updated_at": iso_seconds(member.updated_at),
        "schema": "/v2/schemas/member",
    }


async def _shared(service: ImageService, request: Request[Any]) -> Image:
    image = await seen(service, request)
    if image.visibility != "shared":
        raise forbidden("Only shared images have members.", hint="Set the image's visibility to shared first.")
    return image


async def add(service: ImageService, request: Request[AddMember]) -> dict[str, Any]:
    image = await _shared(service, request)
    request.enforce(target(image))
    owned(request, image)
    if not request.body.member.strip():
        raise invalid("Member can't be empty.", hint="Name the project that the image is shared with.")
    now = service.world.clock.now()
    return view(await service.db.write(store.add_member, Member(image.id, request.body.member, "pending", now, now)))


async def list_(service: ImageService, request: Request[Any]) -> dict[str, Any]:
    image = await _shared(service, request)
    request.enforce(target(image))
    mine = image.owner == request.caller.project_id or request.allows("context_is_admin")
    found = await service.db.read(store.members_of, image.id, "" if mine else request.caller.project_id)
    return {"members": [view(member) for member in found], "schema": "/v2/schemas/members"}


async def show(service: ImageService, request: Request[Any]) -> dict[str, Any]:
    image = await _shared(service, request)
    request.enforce(target(image))
    member_id = request.path["member_id"]
    allowed = image.owner == request.caller.project_id or request.allows("context_is_admin")
    found = await service.db.read(store.members_of, image.id, member_id)
    if not found or not (allowed or member_id == request.caller.project_id):
        raise not_found("Image member", member_id)
    return view(found[0])


async def update(service: ImageService, request: Request[SetStatus]) -> dict[str, Any]:
    image = await _shared(service, request)
    member_id = request.path["member_id"]
    request.enforce({"project_id": member_id, "member_id": member_id, "visibility": image.visibility})
    now = service.world.clock.now()
    return view(await service.db.write(store.set_member_status, image.id, member_id, request.body.status, now))


async def remove(service: ImageService, request: Request[Any]) -> None:
    image = await _shared(service, request)
    request.enforce(target(image))
    owned(request, image)
    await service.db.write(store.drop_member, image.id, request.path["member_id"])


_PATH = "/v2/images/{image_id}/members"
RULES = (
    Rule("add_member", OWNER, "Share an image.", (("POST", _PATH),)),
    Rule("get_members", READ, "List an image's members.", (("GET", _PATH),)),
    Rule("get_member", READ, "Show a member.", (("GET", _PATH + "/{member_id}"),)),
    Rule("modify_member", OWNER, "Accept or reject a shared image.", (("PUT", _PATH + "/{member_id}"),)),
    Rule("delete_member", OWNER, "Stop sharing an image.", (("DELETE", _PATH + "/{member_id}"),)),
)
ROUTES = (
    Route(method="POST", path=_PATH, handler=add, policy="add_member", body=AddMember),
    Route(method="GET", path=_PATH, handler=list_, policy="get_members"),
    Route(method="GET", path=_PATH + "/{member_id}", handler=show, policy="get_member"),
    Route(method="PUT", path=_PATH + "/{member_id}", handler=update, policy="modify_member", body=SetStatus),
    Route(method="DELETE", path=_PATH + "/{member_id}", handler=remove, policy="delete_member", success=204),
)
