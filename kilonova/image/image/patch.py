"""Changes to an image's metadata: JSON patches (RFC 6902, one level, and /locations) and what each field may be."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from kilonova.base.faults import Fault, Kind, conflict, forbidden, invalid
from kilonova.base.ids import is_uuid
from kilonova.image.documents import CONTAINER_FORMATS, DISK_FORMATS
from kilonova.image.image.store import RESERVED, Image

VISIBILITIES = ("public", "private", "shared", "community")
WRITABLE = {
    "name", "visibility", "owner", "protected", "os_hidden", "disk_format", "container_format", "min_disk", "min_ram",
    "tags",
}  # fmt: skip
READ_ONLY = {
    "status", "size", "virtual_size", "checksum", "os_hash_algo", "os_hash_value", "created_at", "updated_at", "file",
    "self", "schema", "direct_url", "stores",
}  # fmt: skip
IMAGE_IDS = ("kernel_id", "ramdisk_id")
PROPERTIES = 128  # of an image at most


class LocationChange(msgspec.Struct, frozen=True):
    """A patch that touches where the data is. `at` is a place in the list, "-" its end, "" all of it."""

    op: str  # add | replace | remove
    at: str
    value: Any = None


def apply(image: Image, change: Any) -> LocationChange | None:
    """One operation of a JSON patch: add, replace, remove. One on locations is given back, not applied."""
    change = _of_today(change)
    if not isinstance(change, dict) or change.get("op") not in ("add", "replace", "remove"):
        raise invalid("Operations must be objects with op add, replace or remove.")
    path = change.get("path")
    if isinstance(path, str) and (path == "/locations" or path.startswith("/locations/")):
        return _on_locations(change, path)
    if not isinstance(path, str) or not path.startswith("/") or "/" in path[1:] or len(path) < 2:
        raise invalid(f"Invalid JSON pointer for this resource: {str(path)[:60]!r}.", hint="For example /name.")
    name = path[1:].replace("~1", "/").replace("~0", "~")
    if change["op"] == "remove":
        _remove(image, name)
        return None
    if "value" not in change:
        raise invalid(f"Operation {change['op']} on {path} has no value.")
    if change["op"] == "replace" and name not in WRITABLE | READ_ONLY | {"id"} and name not in image.properties:
        raise conflict(f"Property {name} does not exist.", hint="Use add.")
    assign(image, name, change["value"], creating=False)
    return None


def _on_locations(change: dict[str, Any], path: str) -> LocationChange:
    at = path.removeprefix("/locations").removeprefix("/")
    if at not in ("", "-") and not (at.isdecimal() and len(at) < 6):
        raise invalid(f"Invalid JSON pointer for this resource: {path[:60]!r}.", hint="For example /locations/-.")
    if change["op"] != "remove" and "value" not in change:
        raise invalid(f"Operation {change['op']} on {path} has no value.")
    return LocationChange(change["op"], at, change.get("value"))


def _of_today(change: Any) -> Any:
    """An operation as the older media type `openstack-images-v2.0-json-patch` writes it, {"add": "/name", "value": …},
    in today's form."""
    if not isinstance(change, dict) or "op" in change:
        return change
    named = [op for op in ("add", "replace", "remove") if op in change]
    return {**change, "op": named[0], "path": change[named[0]]} if len(named) == 1 else change


def _remove(image: Image, name: str) -> None:
    if name in WRITABLE | READ_ONLY | {"id"} or name.startswith(RESERVED):
        raise forbidden(f"Property {name} may not be removed.")
    if image.properties.pop(name, None) is None:
        raise conflict(f"Property {name} does not exist.")


def assign(image: Image, name: str, value: Any, *, creating: bool) -> None:
    if name == "id" and creating:
        if not isinstance(value, str) or not is_uuid(value):
            raise invalid(f"Invalid image id format: {str(value)[:60]!r}.", hint="Use a UUID.")
        image.id = value
    elif name in READ_ONLY or name == "id":
        raise forbidden(f"Attribute '{name}' is read-only.")
    elif name.startswith(RESERVED):
        raise forbidden(f"Attribute '{name}' is reserved.")
    elif name == "locations":
        raise forbidden("Locations are added to an image that is there.", hint="Use PATCH, or POST …/locations.")
    elif name in WRITABLE:
        _assign_known(image, name, value)
    else:
        _assign_property(image, name, value)


def _assign_known(image: Image, name: str, value: Any) -> None:
    allowed = {"disk_format": DISK_FORMATS, "container_format": CONTAINER_FORMATS, "visibility": VISIBILITIES}
    if name in allowed:
        if value not in allowed[name] and not (value is None and name != "visibility"):
            raise invalid(f"Invalid {name} {str(value)[:40]!r}.", hint=f"Known: {', '.join(allowed[name])}.")
        if name != "visibility" and image.status not in ("queued", "") and value != getattr(image, name):
            raise forbidden(f"Attribute {name} can be only replaced for a queued image.")
    elif name in ("protected", "os_hidden"):
        if not isinstance(value, bool):
            raise invalid(f"Invalid input for field {name}: it must be true or false.")
    elif name in ("min_disk", "min_ram"):
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 2147483647:
            raise invalid(f"Invalid input for field {name}: it must be a whole number >= 0.")
    elif name == "tags":
        if not isinstance(value, list) or not all(isinstance(one, str) and 0 < len(one) <= 255 for one in value):
            raise invalid("Invalid input for field tags: it must be a list of strings of at most 255 characters.")
        value = sorted(set(value))
    elif not (value is None or (isinstance(value, str) and len(value) <= 255)):
        raise invalid(f"Invalid input for field {name}: it must be a string of at most 255 characters.")
    setattr(image, name, value)


def _assign_property(image: Image, name: str, value: Any) -> None:
    if not 0 < len(name) <= 255 or re.search(r"[\x00-\x1f]", name):
        raise invalid("A property's name must have 1 to 255 printable characters.")
    if name in IMAGE_IDS:
        if not (value is None or (isinstance(value, str) and is_uuid(value))):
            raise invalid(f"Invalid input for field {name}: it must be the id of an image.")
    elif not isinstance(value, str):
        raise invalid(f"Invalid input for field {name}: properties must be strings.")
    if len(value or "") > 65535:
        raise invalid(f"Invalid input for field {name}: it is longer than 65535 characters.")
    if name not in image.properties and len(image.properties) >= PROPERTIES:
        raise Fault(Kind.TOO_LARGE, f"The limit of {PROPERTIES} properties is exceeded.")
    image.properties[name] = value
