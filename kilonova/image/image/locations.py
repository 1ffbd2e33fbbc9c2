"""Where an image's data is: how it shows, how it is patched, and the locations API (v2.17)."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import msgspec

from kilonova.base.faults import conflict, forbidden, invalid
from kilonova.http.request import Request
from kilonova.image.core import ImageService
from kilonova.image.image import data_store
from kilonova.image.image.patch import LocationChange
from kilonova.image.image.store import Image, Location

WEB_STORE = "web"
HASH_DIGITS = {"md5": 32, "sha1": 40, "sha224": 56, "sha256": 64, "sha384": 96, "sha512": 128}
OF_THE_HOST = ("file", "filesystem")  # schemes that name what is not the user's


class Validation(msgspec.Struct, forbid_unknown_fields=True):
    """What the user says of the data at a location."""

    os_hash_algo: str
    os_hash_value: str
    checksum: str | None = None


async def change_locations(service: ImageService, request: Request[Any], image: Image, change: LocationChange) -> None:
    """Apply a patch of /locations. Data that is there cannot be changed or lost by it (OSSA-2016-006)."""
    if not service.settings.show_multiple_locations:
        raise forbidden("It's not allowed to update locations if locations are invisible.")
    owner = {"project_id": image.owner, "owner": image.owner, "visibility": image.visibility}
    if change.op == "remove":
        request.enforce(owner, "delete_image_location")
        await _remove(service, image, change.at)
        return
    request.enforce(owner, "set_image_location")
    if change.op == "add" and change.at:
        await _add(service, image, change)
    elif change.op == "add" and isinstance(change.value, list) and not image.places:
        for value in change.value:
            await _add(service, image, LocationChange("add", "-", value))
    elif change.op == "replace" and not change.at:
        await _replace(service, image, change.value)
    else:
        raise invalid("Locations are added one by one; only their metadata can be replaced.")


async def _add(service: ImageService, image: Image, change: LocationChange) -> None:
    place, validation = await read_location(service, change.value)
    if image.status not in ("queued", "active"):
        raise conflict(f"Image {image.id} is {image.status}: no location can be added.")
    if place.url in [known.url for known in image.places]:
        raise invalid("The image has this location already.")
    values: dict[str, Any] = {}
    if image.status == "queued":
        if validation is not None:
            require_plausible(validation)
            values = hashes(validation)
        values |= {"status": "active", "size": await service.web().size(place.url)}
    elif validation is not None and any(getattr(image, name) != value for name, value in hashes(validation).items()):
        raise conflict("The location's validation data is not that of the image.")
    at = len(image.places) if change.at == "-" else int(change.at)
    places = [*image.places[:at], place, *image.places[at:]]
    made = await service.db.write(data_store.set_locations, image, places, values)
    for name in ("status", "size", "checksum", "os_hash_algo", "os_hash_value", "locations"):
        setattr(image, name, getattr(made, name))


async def read_location(service: ImageService, value: Any) -> tuple[Location, Validation | None]:
    """A location that a user may add: checked, not fetched."""
    if not isinstance(value, dict) or not isinstance(value.get("url"), str):
        raise invalid("A location must be an object with url and metadata.")
    metadata = value.get("metadata") or {}
    if not isinstance(metadata, dict) or set(value) - {"url", "metadata", "validation_data"}:
        raise invalid("A location has url, metadata and validation_data only.")
    await may_be_added(service, value["url"])
    said = value.get("validation_data")
    return Location(WEB_STORE, value["url"], metadata), read_validation(said) if said else None


async def may_be_added(service: ImageService, url: str) -> None:
    """FORBIDDEN for what names the host's own files, INVALID for whatever else is not on the public web."""
    scheme = urlsplit(url).scheme.lower()
    if scheme in OF_THE_HOST:
        raise forbidden(f"Locations of scheme {scheme} cannot be added.", hint="Upload the data instead.")
    if len(url) > 2048:
        raise invalid("A location's URL has at most 2048 characters.")
    await service.web().check(url)


def read_validation(value: Any) -> Validation:
    """What the user says of the data, plausible. INVALID otherwise."""
    try:
        made = msgspec.convert(value, Validation)
    except msgspec.ValidationError as error:
        raise invalid(f"Invalid validation_data: {error}.") from None
    if made.os_hash_algo not in HASH_DIGITS:
        raise invalid(f"Invalid os_hash_algo {made.os_hash_algo[:20]!r}.", hint=f"Known: {', '.join(HASH_DIGITS)}.")
    if made.checksum is not None and not _hexadecimal(made.checksum, 32):
        raise invalid("Invalid checksum: it must be the 32 hexadecimal digits of an MD5.")
    return made


def require_plausible(validation: Validation) -> None:
    """INVALID unless the value has as many hexadecimal digits as its algorithm gives."""
    if not _hexadecimal(validation.os_hash_value, HASH_DIGITS[validation.os_hash_algo]):
        raise invalid(f"Invalid os_hash_value size for {validation.os_hash_algo}.")


def _hexadecimal(text: str, digits: int) -> bool:
    return len(text) == digits and all(one in "0123456789abcdef" for one in text)


def hashes(validation: Validation) -> dict[str, Any]:
    """The image's columns that the validation data fills."""
    made: dict[str, Any] = {"os_hash_algo": validation.os_hash_algo, "os_hash_value": validation.os_hash_value}
    return made | ({"checksum": validation.checksum} if validation.checksum is not None else {})


async def _remove(service: ImageService, image: Image, at: str) -> None:
    places = image.places
    if not at.isdecimal() or int(at) >= len(places):
        raise invalid("There is no location at that place.")
    if len(places) == 1:
        raise forbidden("Cannot delete the last location of an image.", hint="Delete the image instead.")
    gone = places[int(at)]
    left = places[: int(at)] + places[int(at) + 1 :]
    image.locations = (await service.db.write(data_store.set_locations, image, left, {})).locations
    if not gone.url:
        await service.stores.data(gone.store).drop(image.id)


async def _replace(service: ImageService, image: Image, value: Any) -> None:
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise invalid("Locations must be a list of objects.")
    if not value and image.places:
        raise forbidden("Cannot delete the last location of an image.", hint="Delete the image instead.")
    known = {service.look.told(image.id, place)["url"]: place for place in image.places}
    if [one.get("url") for one in value] != list(known):
        raise invalid("Original locations is not empty: only the metadata of locations can be replaced.")
    places = []
    for one in value:
        place = known[one["url"]]
        metadata = {name: text for name, text in (one.get("metadata") or {}).items() if name != "store"}
        places.append(Location(place.store, place.url, metadata))
    image.locations = (await service.db.write(data_store.set_locations, image, places, {})).locations
