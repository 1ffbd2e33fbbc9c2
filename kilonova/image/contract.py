"""Image's contract: what other services may know of an image, how they get its bytes, and what image asks of others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final, Protocol

import msgspec

from kilonova.bus import rpc

EXCHANGE = "glance"
WORKER_TOPIC = "image-worker"


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


class NewImage(msgspec.Struct, frozen=True):
    """An image that another service makes; its maker chose the id."""

    id: str
    name: str
    disk_format: str = "qcow2"
    container_format: str = "bare"
    min_ram_mb: int = 0
    min_disk_gb: int = 0
    properties: dict[str, str] = {}


class Trust(msgspec.Struct, frozen=True):
    """What an image must prove before its bytes are used."""

    signed: bool = False  # its data bears a valid signature
    certificates: tuple[str, ...] = ()  # of a certificate from which trusted ones, of these ids, lead to a root

    @property
    def asked(self) -> bool:
        """Whether anything must be proven."""
        return self.signed or bool(self.certificates)


NOT_ASKED: Final = Trust()


class RemoteImage(Protocol):
    """An image that may have to be brought to a host. Nothing is asked of anybody until a verb is called: a host that
    has the image already calls none."""

    @property
    def id(self) -> str: ...

    async def room_bytes(self) -> int:
        """How much room it may need: the larger of what it is and what it holds."""
        ...

    async def fetch(self, path: str) -> None:
        """As `Images.download`."""
        ...

    async def places(self) -> list[str]:
        """As `Images.places`, for an image whose bytes are its disk's (raw); otherwise none."""
        ...


class Images(Protocol):
    """Image over REST with the caller's token."""

    async def show(self, token: str, image_id: str) -> ImageRef:
        """NOT_FOUND when it does not exist or may not be seen."""
        ...

    async def download(self, token: str, image_id: str, path: str, trust: Trust = NOT_ASKED) -> None:
        """Write the bytes to `path`, verified against the image's hash and what it must prove; a mismatch leaves no
        file and faults."""
        ...

    async def places(self, token: str, image_id: str) -> list[str]:
        """Where its bytes are, as URLs of stores; none when they are not told."""
        ...

    async def prove(self, token: str, image_id: str, trust: Trust = NOT_ASKED) -> None:
        """For bytes that are here already: the caller may have them (FORBIDDEN, NOT_FOUND), and they prove what they
        must (INVALID)."""
        ...


class MadeImages(Images, Protocol):
    """Images that are made too."""

    async def create(self, token: str, image: NewImage) -> None:
        """A record without bytes (queued), the caller's; CONFLICT when the id is taken."""
        ...

    async def upload(self, token: str, image_id: str, path: str) -> None:
        """The image has the file's bytes and is active."""
        ...

    async def describe(self, token: str, image_id: str, properties: dict[str, str]) -> None:
        """The image has these properties, with those that it had."""
        ...

    async def newest_first(self, token: str, properties: dict[str, str]) -> list[str]:
        """Ids of the caller's active images with these properties; a thousand at most."""
        ...

    async def activate_empty(self, token: str, image_id: str) -> None:
        """The image is active without bytes of its own: what it stands for is kept elsewhere. Is it already: fine."""
        ...

    async def delete(self, token: str, image_id: str) -> None:
        """The image is gone; already gone is fine."""
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
        """The bytes are gone, and what a `save` left whose process died; already gone is fine."""
        ...

    async def free_bytes(self) -> int:
        """Room left."""
        ...

    def location(self, image_id: str) -> str:
        """Where the bytes are, as a URL of the store's own scheme; no secret, no path of a host."""
        ...


class WebRules(msgspec.Struct, frozen=True):
    """What web-download and HTTP locations may reach. Nothing inside a private network unless it is named here."""

    allowed_schemes: tuple[str, ...] = ("http", "https")
    allowed_ports: tuple[int, ...] = (80, 443)
    allowed_networks: tuple[str, ...] = ()  # networks that are taken though they are private or loopback
    blocked_hosts: tuple[str, ...] = ()
    redirects: int = 5
    timeout_seconds: float = 60.0


class WebSource(Protocol):
    """Data from the web, for users: only what the operator lets them reach. Adapter in node/images/web.py."""

    async def check(self, url: str) -> None:
        """INVALID when the URL may not be fetched: scheme, port, or an address that is not public."""
        ...

    async def size(self, url: str) -> int | None:
        """How long the data is, when the server says; faults as `read`."""
        ...

    def read(self, url: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The data; every redirect and every address is checked before a byte is asked for."""
        ...


class DiskConverter(Protocol):
    """Disks from one format to another, in a child without privilege or network. Adapter in node/images/convert.py."""

    def convert(
        self, chunks: AsyncIterator[bytes], source_format: str, target_format: str, virtual_size_bytes: int
    ) -> AsyncIterator[bytes]:
        """The disk in the other format; nothing is left on disk afterwards."""
        ...


class Ends(msgspec.Struct, frozen=True):
    """What is needed of an image's data to know what it is."""

    head: bytes  # the first MiBs
    tail: bytes  # the last bytes
    size_bytes: int


class Found(msgspec.Struct, frozen=True):
    """What an image's data is. `unsafe` says why it must not be used, "" when it may."""

    format: str  # raw | qcow2 | vmdk | vdi | vhd | vhdx | iso | luks | gpt | qed | parallels
    virtual_size_bytes: int | None = None
    unsafe: str = ""


class DiskInspector(Protocol):
    """Reads the headers that users wrote. Adapters in node/images/inspector.py."""

    async def judge(self, ends: Ends) -> Found:
        """What the data is. UNAVAILABLE when reading its headers was stopped: the data must not be used."""
        ...


class ImageLimits(Protocol):
    """Identity's unified limits for one project."""

    async def of(self, token: str, project_id: str) -> dict[str, int]:
        """image_size_total and image_stage_total (MiB), image_count_total, image_count_uploading; absent: no limit."""
        ...


class Certificates(Protocol):
    """The key manager's certificates, for signed images."""

    async def get(self, token: str, certificate_id: str) -> bytes:
        """The certificate, PEM or DER; NOT_FOUND when the caller may not have it."""
        ...


class OtherClouds(Protocol):
    """Image services of other regions that the same identity knows."""

    async def endpoint(self, token: str, region: str, interface: str) -> str:
        """Where that region's image service is; NOT_FOUND when the catalog has none."""
        ...


class ImageWorker(Protocol):
    """Served on `image-worker`, which runs imports."""

    @rpc.cast
    async def run_operation(self, operation_id: str) -> None:
        """An operation row waits: lease it and run it."""
        ...
