"""What stands in a namespace: objects, properties, tags. Each can be listed, shown, made, changed and dropped."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from kilonova.base.faults import invalid
from kilonova.http.listing import page_from
from kilonova.http.request import Answer, Request
from kilonova.http.route import Handler, Route
from kilonova.image.core import ImageService
from kilonova.image.metadef import store
from kilonova.image.metadef.body import NewObject, NewProperty, NewTag, NewTags, refuse_read_only, told
from kilonova.image.metadef.namespace import ADMIN, SEEN, prefix_for, seen
from kilonova.image.metadef.store import Item
from kilonova.image.metadef.view import NAMESPACES, object_view, page_links, property_view, tag_view
from kilonova.policy.rules import Rule

SORTABLE = ("name", "created_at", "updated_at")


async def list_objects(service: ImageService, request: Request[Any]) -> dict[str, Any]:
    namespace = await seen(service, request)
    page = page_from(request.query, sortable=SORTABLE, default=(("created_at", "desc"),), maximum=1000)
    found = await service.db.read(store.page_items, store.objects, namespace.id, page)
    marker = found[-1].name if found and len(found) == page.limit else ""
    path = f"{NAMESPACES}/{namespace.namespace}/objects"
    shown = [object_view(namespace.namespace, one) for one in found]
    return {"objects": shown, "schema": "/v2/schemas/metadefs/objects", **page_links(request, path, marker)}


async def create_object(service: ImageService, request: Request[NewObject]) -> Answer:
    namespace = await seen(service, request)
    item = _object(service, request.body)
    made = await service.db.write(store.insert_item, store.objects, namespace.id, item)
    return Answer(object_view(namespace.namespace, made), 201)


async def show_object(service: ImageService, request: Request[Any]) -> dict[str, Any]:
    namespace = await seen(service, request)
    found = await service.db.read(store.get_item, store.objects, namespace.id, request.path["name"])
    return object_view(namespace.namespace, found)


async def update_object(service: ImageService, request: Request[NewObject]) -> dict[str, Any]:
    namespace = await seen(service, request)
    known = await service.db.read(store.get_item, store.objects, namespace.id, request.path["name"])
    item = _object(service, request.body)
    item.created_at, item.body = known.created_at, {**known.body, **item.body}
    made = await service.db.write(store.replace_item, store.objects, namespace.id, known.name, item)
    return object_view(namespace.namespace, made)


def _object(service: ImageService, body: NewObject) -> Item:
    refuse_read_only(body)
    now = service.world.clock.now()
    return Item(body.name, now, now, told(body, "name"))


async def list_properties(service: ImageService, request: Request[Any]) -> dict[str, Any]:
    namespace = await seen(service, request)
    found = await service.db.read(store.list_items, store.properties, namespace.id)
    return {"properties": {one.name: property_view(one) for one in found}}


async def create_property(service: ImageService, request: Request[NewProperty]) -> Answer:
    namespace = await seen(service, request)
    item = _property(service, request.body)
    made = await service.db.write(store.insert_item, store.properties, namespace.id, item)
    return Answer(property_view(made), 201)


async def show_property(service: ImageService, request: Request[Any]) -> dict[str, Any]:
    namespace = await seen(service, request)
    name = request.path["name"]
    if request.query.get("resource_type"):  # the name is the one on that resource, with its prefix
        associations = await service.db.read(store.list_associations, namespace.id)
        prefix = prefix_for(request, associations)
        found = await service.db.read(store.get_item, store.properties, namespace.id, name.removeprefix(prefix))
        return {**property_view(found), "name": prefix + found.name}
    return property_view(await service.db.read(store.get_item, store.properties, namespace.id, name))


async def update_property(service: ImageService, request: Request[NewProperty]) -> dict[str, Any]:
    namespace = await seen(service, request)
    known = await service.db.read(store.get_item, store.properties, namespace.id, request.path["name"])
    item = _property(service, request.body)
    item.created_at = known.created_at
    return property_view(await service.db.write(store.replace_item, store.properties, namespace.id, known.name, item))


def _property(service: ImageService, body: NewProperty) -> Item:
    now = service.world.clock.now()
    return Item(body.name, now, now, told(body, "name"))


async def list_tags(service: ImageService, request: Request[Any]) -> dict[str, Any]:
    namespace = await seen(service, request)
    page = page_from(request.query, sortable=SORTABLE, default=(("created_at", "desc"),), maximum=1000)
    found = await service.db.read(store.page_items, store.tags, namespace.id, page)
    marker = found[-1].name if found and len(found) == page.limit else ""
    path = f"{NAMESPACES}/{namespace.namespace}/tags"
    return {"tags": [{"name": one.name} for one in found], **page_links(request, path, marker)}


async def replace_tags(service: ImageService, request: Request[NewTags]) -> Answer:
    """POST …/tags: these tags instead of all, or beside them with `X-OpenStack-Append: true`."""
    namespace = await seen(service, request)
    keep = request.headers.get("x-openstack-append", "").lower() == "true"
    now = service.world.clock.now()
    names = [tag.name for tag in request.body.tags]
    if len(set(names)) != len(names):
        raise invalid("Invalid input for field tags: a name stands there twice.")
    items = [Item(name, now, now) for name in names]
    made = await service.db.write(store.replace_tags, namespace.id, items, keep)
    return Answer({"tags": [{"name": one.name} for one in made]}, 201)


async def create_tag(service: ImageService, request: Request[Any]) -> Answer:
    namespace = await seen(service, request)
    now = service.world.clock.now()
    name = request.path["name"]
    if len(name) > 255:
        raise invalid("A tag has at most 255 characters.")
    made = await service.db.write(store.insert_item, store.tags, namespace.id, Item(name, now, now))
    return Answer(tag_view(made), 201)


async def show_tag(service: ImageService, request: Request[Any]) -> dict[str, Any]:
    namespace = await seen(service, request)
    return tag_view(await service.db.read(store.get_item, store.tags, namespace.id, request.path["name"]))


async def rename_tag(service: ImageService, request: Request[NewTag]) -> dict[str, Any]:
    namespace = await seen(service, request)
    refuse_read_only(request.body)
    known = await service.db.read(store.get_item, store.tags, namespace.id, request.path["name"])
    item = Item(request.body.name, known.created_at, service.world.clock.now())
    return tag_view(await service.db.write(store.replace_item, store.tags, namespace.id, known.name, item))


def _drop_one(table: sa.Table) -> Handler:
    async def drop_one(service: ImageService, request: Request[Any]) -> None:
        namespace = await seen(service, request)
        await service.db.write(store.delete_item, table, namespace.id, request.path["name"])

    return drop_one


def _drop_all(table: sa.Table) -> Handler:
    async def drop_all(service: ImageService, request: Request[Any]) -> None:
        namespace = await seen(service, request)
        await service.db.write(store.delete_items, table, namespace.id)

    return drop_all


_OBJECTS, _PROPERTIES, _TAGS = (f"{NAMESPACES}/{{namespace}}/{noun}" for noun in ("objects", "properties", "tags"))
_OBJECT, _PROPERTY, _TAG = (f"{path}/{{name}}" for path in (_OBJECTS, _PROPERTIES, _TAGS))
RULES = (
    Rule("get_metadef_objects", SEEN, "List objects.", (("GET", _OBJECTS),)),
    Rule("get_metadef_object", SEEN, "Show an object.", (("GET", _OBJECT),)),
    Rule("add_metadef_object", ADMIN, "Create an object.", (("POST", _OBJECTS),)),
    Rule("modify_metadef_object", ADMIN, "Change an object.", (("PUT", _OBJECT),)),
    Rule("delete_metadef_object", ADMIN, "Delete objects.", (("DELETE", _OBJECT), ("DELETE", _OBJECTS))),
    Rule("get_metadef_properties", SEEN, "List properties.", (("GET", _PROPERTIES),)),
    Rule("get_metadef_property", SEEN, "Show a property.", (("GET", _PROPERTY),)),
    Rule("add_metadef_property", ADMIN, "Create a property.", (("POST", _PROPERTIES),)),
    Rule("modify_metadef_property", ADMIN, "Change a property.", (("PUT", _PROPERTY),)),
    Rule("remove_metadef_property", ADMIN, "Delete properties.", (("DELETE", _PROPERTY), ("DELETE", _PROPERTIES))),
    Rule("get_metadef_tags", SEEN, "List tags.", (("GET", _TAGS),)),
    Rule("get_metadef_tag", SEEN, "Show a tag.", (("GET", _TAG),)),
    Rule("add_metadef_tags", ADMIN, "Set a namespace's tags.", (("POST", _TAGS),)),
    Rule("add_metadef_tag", ADMIN, "Add a tag.", (("POST", _TAG),)),
    Rule("modify_metadef_tag", ADMIN, "Rename a tag.", (("PUT", _TAG),)),
    Rule("delete_metadef_tags", ADMIN, "Delete all tags.", (("DELETE", _TAGS),)),
    Rule("delete_metadef_tag", ADMIN, "Delete a tag.", (("DELETE", _TAG),)),
)


def _route(method: str, path: str, handler: Handler, policy: str, body: type[Any] | None = None) -> Route:
    success = {"POST": 201, "DELETE": 204}.get(method, 200)
    return Route(
        method=method, path=path, handler=handler, policy=policy, body=body, success=success,
        raw=method == "POST" and body is None,
    )  # fmt: skip


ROUTES = (
    _route("GET", _OBJECTS, list_objects, "get_metadef_objects"),
    _route("POST", _OBJECTS, create_object, "add_metadef_object", NewObject),
    _route("DELETE", _OBJECTS, _drop_all(store.objects), "delete_metadef_object"),
    _route("GET", _OBJECT, show_object, "get_metadef_object"),
    _route("PUT", _OBJECT, update_object, "modify_metadef_object", NewObject),
    _route("DELETE", _OBJECT, _drop_one(store.objects), "delete_metadef_object"),
    _route("GET", _PROPERTIES, list_properties, "get_metadef_properties"),
    _route("POST", _PROPERTIES, create_property, "add_metadef_property", NewProperty),
    _route("DELETE", _PROPERTIES, _drop_all(store.properties), "remove_metadef_property"),
    _route("GET", _PROPERTY, show_property, "get_metadef_property"),
    _route("PUT", _PROPERTY, update_property, "modify_metadef_property", NewProperty),
    _route("DELETE", _PROPERTY, _drop_one(store.properties), "remove_metadef_property"),
    _route("GET", _TAGS, list_tags, "get_metadef_tags"),
    _route("POST", _TAGS, replace_tags, "add_metadef_tags", NewTags),
    _route("DELETE", _TAGS, _drop_all(store.tags), "delete_metadef_tags"),
    _route("GET", _TAG, show_tag, "get_metadef_tag"),
    _route("POST", _TAG, create_tag, "add_metadef_tag"),
    _route("PUT", _TAG, rename_tag, "modify_metadef_tag", NewTag),
    _route("DELETE", _TAG, _drop_one(store.tags), "delete_metadef_tag"),
)
