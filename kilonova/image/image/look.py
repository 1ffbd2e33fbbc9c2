"""How an image looks to clients, and where they may see that its data is."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec

from kilonova.base.clock import iso_seconds
from kilonova.image.image import data_store
from kilonova.image.image.store import Found, Image, Location
from kilonova.image.settings import ImageSettings
from kilonova.image.stores import Stores

IMAGES_REMEMBERED = 2000  # how they look, 2 KiB each
_encode = msgspec.json.Encoder().encode


class Look:
    """One service's way of showing images: which stores there are, and what the operator lets users see of them."""

    def __init__(self, stores: Stores, settings: ImageSettings) -> None:
        self._stores = stores
        self._settings = settings
        self._tells_locations = stores.several or settings.show_multiple_locations or settings.show_image_direct_url
        self.drawn = lru_cache(IMAGES_REMEMBERED)(self._drawn)  # remembered by all that the bytes are made of

    def _drawn(self, found: Found) -> msgspec.Raw:
        """The image as bytes of an answer."""
        return msgspec.Raw(_encode(self.view(found.image())))

    def view(self, image: Image) -> dict[str, Any]:
        """An image as clients see it; its own properties stand beside the known ones."""
        shown = image.properties | {
            "id": image.id,
            "name": image.name,
            "status": image.status,
            "visibility": image.visibility,
            "owner": image.owner,
            "protected": image.protected,
            "os_hidden": image.os_hidden,
            "disk_format": image.disk_format,
            "container_format": image.container_format,
            "min_disk": image.min_disk,
            "min_ram": image.min_ram,
            "size": image.size,
            "virtual_size": image.virtual_size,
            "checksum": image.checksum,
            "os_hash_algo": image.os_hash_algo,
            "os_hash_value": image.os_hash_value,
            "tags": image.tags,
            "created_at": iso_seconds(image.created_at),
            "updated_at": iso_seconds(image.updated_at),
            "self": f"/v2/images/{image.id}",
            "file": f"/v2/images/{image.id}/file",
            "schema": "/v2/schemas/image",
        }
        shown.pop(data_store.TASK, None)
        return shown | self._locations(image) if self._tells_locations else shown

    def _locations(self, image: Image) -> dict[str, Any]:
        """`stores`, `locations` and `direct_url`, as far as the operator lets users see them."""
        made: dict[str, Any] = {}
        places = image.places
        if self._stores.several and places:
            made["stores"] = ",".join(self._stores.in_order(place.store for place in places))
        if self._settings.show_multiple_locations:
            made["locations"] = [self.told(image.id, place) for place in places]
        if self._settings.show_image_direct_url and places:
            made["direct_url"] = self.told(image.id, places[0])["url"]
        return made

    def told(self, image_id: str, place: Location) -> dict[str, Any]:
        """A location as clients see it."""
        store = place.store or self._stores.default.id
        url = place.url or self._stores.data(store).location(image_id)
        return {"url": url, "metadata": {**place.metadata, "store": store} if self._stores.several else place.metadata}
