"""Image's contract: what other services may know of an image, and how they get its bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

import msgspec


class ImageRef(msgspec.Struct, frozen=True):
    """An image as compute and block storage see it over REST."""

    id: str
    name: str
    status: str
    disk_format: str
    container_format: str
    size: int
    min_ram_mb: int
    min_disk_gb: int
    owner: str
    visibility: str
    virtual_size: int | None = None
    checksum: str = ""
    hash_algo: str = ""
    hash_value: str = ""
    properties: dict[str, str] = {}


class Images(Protocol):
    """Image over REST with the caller's token."""

    async def show(self, token: str, image_id: str) -> ImageRef:
        """NOT_FOUND when it does not exist or may not be seen."""
        ...

    async def download(self, token: str, image_id: str, path: str) -> None:
        """Write the bytes to `path`, verified against the image's hash; a mismatch leaves no file and faults."""
        ...


class ImageStore(Protocol):
    """Where images' bytes live; adapters in node/images/. The service hashes and inspects; a store only keeps."""

    async def save(self, image_id: str, chunks: AsyncIterator[bytes]) -> None:
        """Keep all chunks, or nothing when they fail midway or room runs out (TOO_LARGE before it is full)."""
        ...

    def read(self, image_id: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Bytes [start, end) in chunks; NOT_FOUND when they are gone."""
        ...

    async def drop(self, image_id: str) -> None:
        """The bytes are gone; already gone is fine."""
        ...

    async def free_bytes(self) -> int:
        """Room left."""
        ...
