"""Bodies of metadata definitions, as they come in. Source: the metadefs schemas of the Image API v2 reference."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from kilonova.base.faults import forbidden

Short = Annotated[str, msgspec.Meta(max_length=80)]
ItemName = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
Count = Annotated[int, msgspec.Meta(ge=0)]
JsonType = Literal["array", "boolean", "integer", "number", "object", "string"] | None
READ_ONLY = ("self", "schema", "created_at", "updated_at")


class Elements(msgspec.Struct, forbid_unknown_fields=False):
    """What a property's list holds."""

    type: JsonType | UnsetType = UNSET
    enum: list[Any] | UnsetType = UNSET


class PropertySchema(msgspec.Struct, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """A property: a piece of JSON schema with a title."""

    title: str
    type: JsonType
    name: ItemName | UnsetType = UNSET
    description: str | UnsetType = UNSET
    operators: list[str] | UnsetType = UNSET
    readonly: bool | UnsetType = UNSET
    minimum: float | int | UnsetType = UNSET
    maximum: float | int | UnsetType = UNSET
    min_length: Count | UnsetType = UNSET
    max_length: Count | UnsetType = UNSET
    pattern: str | UnsetType = UNSET
    enum: list[Any] | UnsetType = UNSET
    default: Any = UNSET
    required: list[str] | UnsetType = UNSET
    items: Elements | UnsetType = UNSET
    max_items: Count | UnsetType = UNSET
    min_items: Count | UnsetType = UNSET
    unique_items: bool | UnsetType = UNSET
    additional_items: bool | UnsetType = UNSET


class NewProperty(PropertySchema, kw_only=True):
    """POST …/properties, PUT …/properties/{name}: the name is in the body."""

    name: ItemName


class NewObject(msgspec.Struct, forbid_unknown_fields=True):
    """POST …/objects, PUT …/objects/{name}: some properties that belong together."""

    name: ItemName
    description: str | UnsetType = UNSET
    required: list[str] | UnsetType = UNSET
    properties: dict[str, PropertySchema] | UnsetType = UNSET
    # what a client read may be sent back, and is then refused by name
    self: Any = UNSET
    schema: Any = UNSET
    created_at: Any = UNSET
    updated_at: Any = UNSET


class NewTag(msgspec.Struct, forbid_unknown_fields=True):
    """A tag's name."""

    name: ItemName
    created_at: Any = UNSET
    updated_at: Any = UNSET


class NewTags(msgspec.Struct, forbid_unknown_fields=True):
    """POST …/tags: these and no others."""

    tags: list[NewTag]


class NewAssociation(msgspec.Struct, forbid_unknown_fields=True):
    """POST …/resource_types."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=80)]
    prefix: Short | None = None
    properties_target: Short | None = None
    created_at: Any = UNSET
    updated_at: Any = UNSET


class NewNamespace(msgspec.Struct, forbid_unknown_fields=True):
    """POST /v2/metadefs/namespaces, with all that stands in it; PUT takes the plain fields."""

    namespace: Annotated[str, msgspec.Meta(min_length=1, max_length=80)]
    display_name: Short | UnsetType | None = UNSET
    description: Annotated[str, msgspec.Meta(max_length=500)] | UnsetType | None = UNSET
    visibility: Literal["public", "private"] | UnsetType = UNSET
    protected: bool | UnsetType = UNSET
    owner: Annotated[str, msgspec.Meta(max_length=255)] | UnsetType = UNSET
    objects: list[NewObject] = []
    properties: dict[str, PropertySchema] = {}
    tags: list[NewTag] = []
    resource_type_associations: list[NewAssociation] = []
    self: Any = UNSET
    schema: Any = UNSET
    created_at: Any = UNSET
    updated_at: Any = UNSET


def refuse_read_only(body: msgspec.Struct) -> None:
    """FORBIDDEN when a body carries what only answers do."""
    for name in READ_ONLY:
        if getattr(body, name, UNSET) is not UNSET:
            raise forbidden(f"Attribute '{name}' is read-only.")


def told(body: msgspec.Struct, *without: str) -> dict[str, Any]:
    """What the client said of a definition, JSON-ready."""
    value: dict[str, Any] = msgspec.to_builtins(body)
    for name in (*READ_ONLY, *without):
        value.pop(name, None)
    return value
