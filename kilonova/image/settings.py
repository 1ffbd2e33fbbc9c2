"""The operator's choices for images."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Literal

from kilonova.image.contract import WebRules

IMPORT_METHODS = ("glance-direct", "web-download", "copy-image", "glance-download")


@dataclass(frozen=True)
class StoreSettings:
    """A place where images' bytes live: `[[image.stores]]`."""

    id: str
    kind: str = "file"  # file | http | s3 | swift | rbd
    description: str = ""
    weight: int = 0  # the heaviest is read first
    default: bool = False
    directory: str = ""  # of a file store; "" is its own below the state directory
    url: str = ""  # of an S3 endpoint, or of Swift's identity
    container: str = ""  # bucket, container or pool
    user: str = ""  # access key, or Swift's user
    secret: str = ""
    region: str = ""
    project: str = ""  # of a Swift user


HashName = Literal["sha512", "sha384", "sha256", "sha3_512", "sha3_256", "blake2b"]


@dataclass(frozen=True)
class WebSettings:
    """What web-download and HTTP locations may reach. Nothing inside a private network unless it is named here."""

    allowed_schemes: tuple[str, ...] = ("http", "https")
    allowed_ports: tuple[int, ...] = (80, 443)
    allowed_networks: tuple[str, ...] = ()  # networks that are taken though they are private or loopback
    blocked_hosts: tuple[str, ...] = ()
    redirects: int = 5
    timeout_seconds: float = 60.0

    def rules(self) -> WebRules:
        """The same for who fetches."""
        return WebRules(**asdict(self))


@dataclass(frozen=True)
class ImageSettings:
    """`[image]` of the settings file."""

    image_size_cap_bytes: int = 1 << 40
    require_image_format_match: bool = True  # off: a declared format may be wrong; unsafe data is refused all the same
    stores: tuple[StoreSettings, ...] = ()  # none: one store of files
    web: WebSettings = field(default_factory=WebSettings)
    import_methods: tuple[str, ...] = IMPORT_METHODS
    convert_to: str = ""  # imported disks become raw or qcow2
    inject_properties: dict[str, str] = field(default_factory=dict)  # put on imported images
    inject_ignore_roles: tuple[str, ...] = ("admin",)  # not on those of users with such a role
    show_multiple_locations: bool = False  # users see and add locations (OSSN-0065: think first)
    show_image_direct_url: bool = False
    hashing_algorithm: HashName = "sha512"  # of what is uploaded and imported, beside md5
    do_secure_hash: bool = True  # data of an added location is read and hashed
    key_manager: str = "directory"  # keeps the certificates of signed images: directory | barbican
    certificates: str = ""  # the directory of UUID.pem files; "" is `certificates` in the state directory
    cache_bytes: int = 0  # room for copies of images that stores elsewhere keep; 0 keeps none
