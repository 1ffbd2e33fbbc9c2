"""The JSON schemas that clients read to know images, members, tasks and metadata definitions (/v2/schemas/…)."""

from __future__ import annotations

from typing import Any

from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.image.core import ImageService

Json = dict[str, Any]

DISK_FORMATS = ("ami", "ari", "aki", "vhd", "vhdx", "vmdk", "raw", "qcow2", "vdi", "iso", "ploop", "luks", "gpt")
CONTAINER_FORMATS = ("ami", "ari", "aki", "bare", "ovf", "ova", "docker", "compressed")
STATUSES = ("queued", "saving", "active", "killed", "deleted", "pending_delete", "deactivated", "uploading",
            "importing")  # fmt: skip
_UUID = r"^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$"
_LINKS = [{"href": "{schema}", "rel": "describedby"}]
_PAGE_LINKS = [{"href": "{first}", "rel": "first"}, {"href": "{next}", "rel": "next"}, *_LINKS]


def _text(description: str = "", maximum: int = 0, **more: Any) -> Json:
    made: Json = {"type": "string", **more}
    if description:
        made["description"] = description
    if maximum:
        made["maxLength"] = maximum
    return made


def _or_null(schema: Json) -> Json:
    return {**schema, "type": ["null", schema["type"]]}


def _shown(description: str = "", **more: Any) -> Json:
    """A text that only answers carry."""
    return _text(description, readOnly=True, **more)


def _collection(name: str, item: Json, key: str = "", **more: Any) -> Json:
    pages = {"first": _text(), "next": _text()} if more.pop("paged", True) else {}
    listed = {"type": "array", "items": item}
    return {
        "name": name,
        "properties": {**pages, key or name: listed, "schema": _text()},
        "links": _PAGE_LINKS if pages else _LINKS,
        **more,
    }


def _image() -> Json:
    validation = {
        "type": "object",
        "writeOnly": True,
        "additionalProperties": False,
        "description": "Hashes of the data; once the image is active they must be the ones it has.",
        "required": ["os_hash_algo", "os_hash_value"],
        "properties": {
            "checksum": _text(minLength=32, maximum=32),
            "os_hash_algo": _text(maximum=64),
            "os_hash_value": _text(maximum=128),
        },
    }
    location = {
        "type": "object",
        "required": ["url", "metadata"],
        "properties": {"url": _text(maximum=255), "metadata": {"type": "object"}, "validation_data": validation},
    }
    return {
        "id": _text("The image's id", pattern=_UUID),
        "name": _or_null(_text("The image's name", 255)),
        "status": _shown("What can be done with the image", enum=list(STATUSES)),
        "visibility": _text("Who sees the image", enum=["community", "public", "private", "shared"]),
        "protected": {"type": "boolean", "description": "Whether the image is kept from being deleted"},
        "os_hidden": {"type": "boolean", "description": "Whether lists leave the image out unless asked for"},
        "checksum": _or_null(_shown("MD5 of the data", maximum=32)),
        "os_hash_algo": _or_null(_shown("What os_hash_value was computed with", maximum=64)),
        "os_hash_value": _or_null(_shown("Hash of the data, in hexadecimal digits", maximum=128)),
        "owner": _or_null(_text("The project that the image belongs to", 255)),
        "size": {"type": ["null", "integer"], "readOnly": True, "description": "Length of the data in bytes"},
        "virtual_size": {"type": ["null", "integer"], "readOnly": True, "description": "Size of the disk in bytes"},
        "container_format": {**_or_null(_text("What wraps the disk")), "enum": [None, *CONTAINER_FORMATS]},
        "disk_format": {**_or_null(_text("How the disk is written")), "enum": [None, *DISK_FORMATS]},
        "created_at": _shown("When the image was registered"),
        "updated_at": _shown("When the image was changed last"),
        "tags": {"type": "array", "items": _text(maximum=255), "description": "Words that find the image"},
        "direct_url": _shown("Where the data is, in the store's own words"),
        "min_ram": {"type": "integer", "description": "Least memory of a server, in MB"},
        "min_disk": {"type": "integer", "description": "Least root disk of a server, in GB"},
        "self": _shown("The image's address"),
        "file": _shown("The address of the image's data"),
        "stores": _shown("The stores that hold the data"),
        "schema": _shown("This schema's address"),
        "locations": {"type": "array", "items": location, "description": "Where the data is"},
        "architecture": _text("The processor architecture", is_base=False),
        "kernel_id": {**_or_null(_text("Image of the kernel, for ami", pattern=_UUID)), "is_base": False},
        "ramdisk_id": {**_or_null(_text("Image of the ramdisk, for ami", pattern=_UUID)), "is_base": False},
        "instance_uuid": _text("The server that the image was made from", is_base=False),
        "os_distro": _text("The distribution's name", is_base=False),
        "os_version": _text("The distribution's version", is_base=False),
    }


def _member() -> Json:
    return {
        "name": "member",
        "properties": {
            "image_id": _text("The image's id", pattern=_UUID),
            "member_id": _text("The project that the image is shared with"),
            "status": _text("What that project thinks of it", enum=["pending", "accepted", "rejected"]),
            "created_at": _text("When the image was shared"),
            "updated_at": _text("When the project changed its mind"),
            "schema": _shown(),
        },
    }


def _task(*, whole: bool) -> Json:
    facts = {
        "id": _text("The task's id", pattern=_UUID),
        "type": _text("What the task does", enum=["import", "api_image_import", "location_import"]),
        "status": _text("How far it is", enum=["pending", "processing", "success", "failure"]),
        "owner": _text("The project that asked for it"),
        "expires_at": _or_null(_text("When it is forgotten")),
        "created_at": _text("When it was asked for"),
        "updated_at": _text("When it moved last"),
        "self": _shown(),
        "schema": _shown(),
    }
    if whole:
        facts |= {
            "input": {"type": ["null", "object"], "description": "What was asked"},
            "result": {"type": ["null", "object"], "description": "What came of it"},
            "message": _text("How it goes, or why it failed"),
        }
    return {"name": "task", "properties": facts}


_DEFINITIONS: Json = {
    "positiveInteger": {"minimum": 0, "type": "integer"},
    "positiveIntegerDefault0": {"allOf": [{"$ref": "#/definitions/positiveInteger"}, {"default": 0}]},
    "stringArray": {"type": "array", "items": _text(), "uniqueItems": True},
}
_TYPES = {"type": "string", "enum": ["array", "boolean", "integer", "number", "object", "string", None]}
_COUNT = {"$ref": "#/definitions/positiveInteger"}
_COUNT_OR_0 = {"$ref": "#/definitions/positiveIntegerDefault0"}
_NAMES = {"$ref": "#/definitions/stringArray"}
_TIMES = {
    "created_at": _shown("When it was made", format="date-time"),
    "updated_at": _shown("When it was changed last", format="date-time"),
}
_PROPERTY: Json = {
    "name": _text(maximum=255),
    "title": _text(),
    "description": _text(),
    "type": _TYPES,
    "operators": {"type": "array", "items": _text()},
    "readonly": {"type": "boolean"},
    "default": {},
    "enum": {"type": "array"},
    "pattern": _text(format="regex"),
    "minimum": {"type": "number"},
    "maximum": {"type": "number"},
    "minLength": _COUNT_OR_0,
    "maxLength": _COUNT,
    "items": {"type": "object", "properties": {"type": _TYPES, "enum": {"type": "array"}}},
    "minItems": _COUNT_OR_0,
    "maxItems": _COUNT,
    "uniqueItems": {"type": "boolean", "default": False},
    "additionalItems": {"type": "boolean"},
    "required": _NAMES,
}
_PROPERTIES = {
    "type": "object",
    "additionalProperties": {"type": "object", "required": ["title", "type"], "properties": _PROPERTY},
}
_WITH_PROPERTIES = {**_DEFINITIONS, "property": _PROPERTIES}
_OBJECT: Json = {
    "name": _text(maximum=255),
    "description": _text(),
    "required": _NAMES,
    "properties": {"$ref": "#/definitions/property"},
    **_TIMES,
    "self": _shown(),
    "schema": _shown(),
}
_TAG: Json = {"name": _text(maximum=255), **_TIMES}
_ASSOCIATION: Json = {
    "name": _text("The kind of resource, as orchestration names it", 80),
    "prefix": _text("What stands before a property's name on such a resource, with its separator", 80),
    "properties_target": _text("Which of a resource's sets of properties is meant, when it has several", 80),
    **_TIMES,
}


def _strict(name: str, properties: Json, required: list[str], **more: Any) -> Json:
    return {"name": name, "additionalProperties": False, "required": required, "properties": properties, **more}


def _namespace() -> Json:
    plain = {name: {"type": "object", "properties": {"name": _text()}} for name in ("tags",)}
    association = {name: _text() for name in ("name", "prefix", "properties_target")}
    facts = {
        "namespace": _text("The namespace's name, of which there is one", 80),
        "display_name": _text("The name that people read", 80),
        "description": _text("What the namespace is for", 500),
        "visibility": _text("Who sees the namespace", enum=["public", "private"]),
        "protected": {"type": "boolean", "description": "Whether the namespace is kept from being deleted"},
        "owner": _text("The project that the namespace belongs to", 255),
        **_TIMES,
        "self": _shown(),
        "schema": _shown(),
        "resource_type_associations": {"type": "array", "items": {"type": "object", "properties": association}},
        "properties": {"$ref": "#/definitions/property"},
        "objects": {
            "type": "array",
            "items": {"type": "object", "properties": {n: _OBJECT[n] for n in _OBJECT if n not in _TIMES}},
        },
        "tags": {"type": "array", "items": plain["tags"]},
    }
    return _strict("namespace", facts, ["namespace"], definitions=_WITH_PROPERTIES)


def _documents() -> dict[str, Json]:
    links = [{"href": "{self}", "rel": "self"}, {"href": "{file}", "rel": "enclosure"}, *_LINKS]
    image = {"name": "image", "properties": _image(), "additionalProperties": {"type": "string"}, "links": links}
    namespace = _namespace()
    bare = {name: value for name, value in namespace.items() if name != "definitions"}
    tag = _strict("tag", _TAG, ["name"])
    object_ = _strict("object", _OBJECT, ["name"])
    association = _strict("resource_type_association", _ASSOCIATION, ["name"])
    property_ = _strict("property", _PROPERTY, ["type", "title"])
    properties = {
        "name": "properties",
        "definitions": _DEFINITIONS,
        "links": _PAGE_LINKS,
        "properties": {
            "first": _text(),
            "next": _text(),
            "properties": {"type": "object", "additionalProperties": property_},
            "schema": _text(),
        },
    }
    return {
        "image": image,
        "images": _collection("images", image),
        "member": _member(),
        "members": _collection("members", _member(), paged=False),
        "task": _task(whole=True),
        "tasks": _collection("tasks", _task(whole=False), paged=False),
        "metadefs/namespace": namespace,
        "metadefs/namespaces": _collection("namespaces", bare, definitions=_WITH_PROPERTIES),
        "metadefs/object": {**object_, "definitions": _WITH_PROPERTIES},
        "metadefs/objects": _collection("objects", object_, definitions=_WITH_PROPERTIES),
        "metadefs/property": {**property_, "definitions": _DEFINITIONS, "required": ["type", "title", "name"]},
        "metadefs/properties": properties,
        "metadefs/resource_type": association,
        "metadefs/resource_types": _collection("resource_type_associations", association),
        "metadefs/tag": tag,
        "metadefs/tags": _collection("tags", tag),
    }


DOCUMENTS = _documents()


def _route(name: str, document: Json) -> Route:
    async def schema(service: ImageService, request: Request[Any]) -> Json:
        return document

    return Route(
        method="GET", path=f"/v2/schemas/{name}", handler=schema, open_because="a schema holds nobody's secrets"
    )


ROUTES = tuple(_route(name, document) for name, document in DOCUMENTS.items())
