"""Namespaces: list, show, create, update, delete; and the resource types that they are for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from kilonova.base.faults import forbidden, invalid
from kilonova.http.listing import page_from
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.image.metadef import store
from kilonova.image.metadef.body import NewAssociation, NewNamespace, refuse_read_only, told
from kilonova.image.metadef.store import Association, Contents, Item, Namespace
from kilonova.image.metadef.view import (
    NAMESPACES,
    association_view,
    namespace_view,
    page_links,
    resource_type_view,
    whole_view,
)
from kilonova.policy.rules import Rule

if TYPE_CHECKING:
    from datetime import datetime

    from kilonova.image.core import ImageService

DEFAULT_LIMIT = 25


async def seen(service: ImageService, request: Request[Any]) -> Namespace:
    """The namespace of the path, if the caller may know of it; then the route's rule is enforced."""
    viewer = "" if request.allows("context_is_admin") else request.caller.project_id or "-"
    found = await service.db.read(store.visible_namespace, request.path["namespace"], viewer)
    request.enforce({"project_id": found.owner, "owner": found.owner, "visibility": found.visibility})
    return found


async def list_(service: ImageService, request: Request[Any]) -> dict[str, Any]:
    request.enforce()
    query = request.query
    visibility = query.get("visibility") or ""
    if visibility not in ("", "public", "private"):
        raise invalid(f"Invalid visibility value: {visibility[:40]}", hint="Use public or private.")
    page = page_from(query, sortable=set(store.NAMESPACE_SORTS), maximum=1000)
    if query.get("limit") is None:
        page = type(page)(DEFAULT_LIMIT, page.marker, page.sorts)
    viewer = "" if request.allows("context_is_admin") else request.caller.project_id or "-"
    types = [one for one in (query.get("resource_types") or "").split(",") if one]
    found = await service.db.read(store.list_namespaces, viewer, visibility, types, page)
    shown = []
    for namespace, associations in found:
        view = namespace_view(namespace)
        if associations:
            view["resource_type_associations"] = [association_view(one) for one in associations]
        shown.append(view)
    marker = found[-1][0].namespace if found and len(found) == page.limit else ""
    return {"namespaces": shown, "schema": "/v2/schemas/metadefs/namespaces", **page_links(request, NAMESPACES, marker)}


async def create(service: ImageService, request: Request[NewNamespace]) -> Answer:
    request.enforce()
    body = request.body
    refuse_read_only(body)
    now = service.world.clock.now()
    made = Namespace(
        id=service.world.ids.uuid(),
        namespace=body.namespace,
        visibility=body.visibility or "private",
        created_at=now,
        updated_at=now,
        display_name=body.display_name or None,
        description=body.description or None,
        protected=body.protected or False,
        owner=body.owner or request.caller.project_id,
    )
    contents = _contents(body, now)
    await service.db.write(store.insert_namespace, made, contents)
    shown = whole_view(made, contents)
    return Answer(shown, 201, {"Location": f"{request.origin}{shown['self']}"})


def _contents(body: NewNamespace, now: datetime) -> Contents:
    for thing in (*body.objects, *body.tags, *body.resource_type_associations):
        refuse_read_only(thing)
    return Contents(
        [Item(one.name, now, now, told(one, "name")) for one in body.objects],
        [Item(name, now, now, told(one, "name")) for name, one in body.properties.items()],
        [Item(one.name, now, now) for one in body.tags],
        [Association(one.name, now, now, one.prefix, one.properties_target)
         for one in body.resource_type_associations],
    )  # fmt: skip


async def show(service: ImageService, request: Request[Any]) -> dict[str, Any]:
    namespace = await seen(service, request)
    contents = await service.db.read(store.contents_of, namespace.id)
    return whole_view(namespace, contents, prefix_for(request, contents.associations))


def prefix_for(request: Request[Any], associations: list[Association]) -> str:
    """What stands before a property's name on the resource type that `?resource_type=` asks for."""
    wanted = request.query.get("resource_type")
    return next((one.prefix or "" for one in associations if one.name == wanted), "")


async def update(service: ImageService, request: Request[NewNamespace]) -> dict[str, Any]:
    namespace = await seen(service, request)
    body = request.body
    refuse_read_only(body)
    for name in ("namespace", "display_name", "description", "visibility", "protected", "owner"):
        if (value := getattr(body, name)) is not UNSET:
            setattr(namespace, name, value)
    namespace.updated_at = service.world.clock.now()
    return namespace_view(await service.db.write(store.update_namespace, namespace))


async def delete(service: ImageService, request: Request[Any]) -> None:
    namespace = await seen(service, request)
    if namespace.protected:
        raise forbidden(
            f"Metadata definition namespace {namespace.namespace} is protected and cannot be deleted.",
            hint="Set protected to false first.",
        )
    await service.db.write(store.delete_namespace, namespace.id)


async def resource_types(service: ImageService, request: Request[Any]) -> dict[str, Any]:
    request.enforce()
    found = await service.db.read(store.list_resource_types)
    return {"resource_types": [resource_type_view(one) for one in found]}


async def associations(service: ImageService, request: Request[Any]) -> dict[str, Any]:
    namespace = await seen(service, request)
    found = await service.db.read(store.list_associations, namespace.id)
    return {"resource_type_associations": [association_view(one) for one in found]}


async def associate(service: ImageService, request: Request[NewAssociation]) -> Answer:
    namespace = await seen(service, request)
    body = request.body
    refuse_read_only(body)
    now = service.world.clock.now()
    wanted = Association(body.name, now, now, body.prefix, body.properties_target)
    return Answer(association_view(await service.db.write(store.associate, namespace.id, wanted)), 201)


async def dissociate(service: ImageService, request: Request[Any]) -> None:
    namespace = await seen(service, request)
    if namespace.protected:
        raise forbidden(f"Metadata definition namespace {namespace.namespace} is protected: its types stay.")
    await service.db.write(store.delete_item, store.associations, namespace.id, request.path["name"])


ADMIN = "rule:metadef_admin"
SEEN = "(role:admin) or (role:reader and (project_id:%(project_id)s or 'public':%(visibility)s))"
MINE = "(role:admin) or (role:reader and project_id:%(project_id)s)"
_ONE = NAMESPACES + "/{namespace}"
_TYPES = _ONE + "/resource_types"
RULES = (
    Rule("metadef_default", "", "Older default of metadata definitions.", scopes=()),
    Rule("metadef_admin", "role:admin", "Who keeps metadata definitions.", scopes=()),
    Rule("get_metadef_namespaces", MINE, "List namespaces.", (("GET", NAMESPACES),)),
    Rule("get_metadef_namespace", SEEN, "Show a namespace.", (("GET", _ONE),)),
    Rule("add_metadef_namespace", ADMIN, "Create a namespace.", (("POST", NAMESPACES),)),
    Rule("modify_metadef_namespace", ADMIN, "Change a namespace.", (("PUT", _ONE),)),
    Rule("delete_metadef_namespace", ADMIN, "Delete a namespace.", (("DELETE", _ONE),)),
    Rule("list_metadef_resource_types", MINE, "List kinds of resources.", (("GET", "/v2/metadefs/resource_types"),)),
    Rule("get_metadef_resource_type", SEEN, "List a namespace's kinds of resources.", (("GET", _TYPES),)),
    Rule("add_metadef_resource_type_association", ADMIN, "A namespace is for a kind.", (("POST", _TYPES),)),
    Rule("remove_metadef_resource_type_association", ADMIN, "… no longer.", (("DELETE", _TYPES + "/{name}"),)),
)
ROUTES = (
    Route(method="GET", path=NAMESPACES, handler=list_, policy="get_metadef_namespaces"),
    Route(method="POST", path=NAMESPACES, handler=create, policy="add_metadef_namespace", body=NewNamespace),
    Route(method="GET", path=_ONE, handler=show, policy="get_metadef_namespace"),
    Route(method="PUT", path=_ONE, handler=update, policy="modify_metadef_namespace", body=NewNamespace),
    Route(method="DELETE", path=_ONE, handler=delete, policy="delete_metadef_namespace", success=204),
    Route(
        method="GET", path="/v2/metadefs/resource_types", handler=resource_types, policy="list_metadef_resource_types"
    ),
    Route(method="GET", path=_TYPES, handler=associations, policy="get_metadef_resource_type"),
    Route(
        method="POST",
        path=_TYPES,
        handler=associate,
        policy="add_metadef_resource_type_association",
        body=NewAssociation,
    ),
    Route(
        method="DELETE",
        path=_TYPES + "/{name}",
        handler=dissociate,
        policy="remove_metadef_resource_type_association",
        success=204,
    ),
)
