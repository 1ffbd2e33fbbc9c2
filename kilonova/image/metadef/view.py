"""Metadata definitions as clients see them."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from kilonova.base.clock import iso_seconds
from kilonova.http.request import Request
from kilonova.image.metadef.store import Association, Contents, Item, Namespace, ResourceType

NAMESPACES = "/v2/metadefs/namespaces"


def namespace_view(namespace: Namespace) -> dict[str, Any]:
    """A namespace without what stands in it."""
    shown: dict[str, Any] = {
        "namespace": namespace.namespace,
        "visibility": namespace.visibility,
        "protected": namespace.protected,
        "owner": namespace.owner,
        "created_at": iso_seconds(namespace.created_at),
        "updated_at": iso_seconds(namespace.updated_at),
        "self": f"{NAMESPACES}/{namespace.namespace}",
        "schema": "/v2/schemas/metadefs/namespace",
    }
    for name in ("display_name", "description"):
        if (value := getattr(namespace, name)) is not None:
            shown[name] = value
    return shown


def whole_view(namespace: Namespace, contents: Contents, prefix: str = "") -> dict[str, Any]:
    """A namespace with what stands in it; property names get the resource type's `prefix`."""
    shown = namespace_view(namespace)
    if contents.associations:
        shown["resource_type_associations"] = [association_view(one) for one in contents.associations]
    if contents.objects:
        shown["objects"] = [object_view(namespace.namespace, one, prefix) for one in contents.objects]
    if contents.properties:
        shown["properties"] = {prefix + one.name: one.body for one in contents.properties}
    if contents.tags:
        shown["tags"] = [{"name": one.name} for one in contents.tags]
    return shown


def object_view(namespace: str, item: Item, prefix: str = "") -> dict[str, Any]:
    """An object."""
    shown = {
        "name": item.name,
        "required": [],
        "properties": {},
        **item.body,
        "created_at": iso_seconds(item.created_at),
        "updated_at": iso_seconds(item.updated_at),
        "self": f"{NAMESPACES}/{namespace}/objects/{item.name}",
        "schema": "/v2/schemas/metadefs/object",
    }
    if prefix:
        shown["properties"] = {prefix + name: value for name, value in shown["properties"].items()}
        shown["required"] = [prefix + name for name in shown["required"]]
    return shown


def property_view(item: Item) -> dict[str, Any]:
    """A property by itself."""
    return {**item.body, "name": item.name}


def tag_view(item: Item) -> dict[str, Any]:
    """A tag by itself."""
    return {
        "name": item.name,
        "created_at": iso_seconds(item.created_at),
        "updated_at": iso_seconds(item.updated_at),
    }


def association_view(association: Association) -> dict[str, Any]:
    """A resource type of a namespace."""
    shown = {
        "name": association.name,
        "created_at": iso_seconds(association.created_at),
        "updated_at": iso_seconds(association.updated_at),
    }
    for name in ("prefix", "properties_target"):
        if value := getattr(association, name):
            shown[name] = value
    return shown


def resource_type_view(type_: ResourceType) -> dict[str, Any]:
    """A resource type by itself."""
    return {
        "name": type_.name,
        "created_at": iso_seconds(type_.created_at),
        "updated_at": iso_seconds(type_.updated_at),
    }


def page_links(request: Request[Any], path: str, marker: str) -> dict[str, str]:
    """`first`, and `next` when the page ended at `marker`."""
    kept = [(name, value) for name, value in request.query.pairs if name != "marker"]
    links = {"first": path + (f"?{urlencode(kept)}" if kept else "")}
    if marker:
        links["next"] = f"{path}?{urlencode([*kept, ('marker', marker)])}"
    return links
