"""Well-known cloud images: where they are, and where their checksums are. An operator's list goes over this one."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec

from kilonova.base.faults import invalid, not_found


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An image that can be fetched by name. One of `checksum` and `checksums_url` must be there."""

    name: str
    url: str
    disk_format: str = "qcow2"
    checksums_url: str = ""  # a file of lines `digest  name` or `ALGORITHM (name) = digest`
    checksum: str = ""  # hexadecimal digits; their number tells the algorithm
    title: str = ""
    min_disk_gb: int = 0
    min_ram_mb: int = 0
    properties: dict[str, str] = {}


def _linux(distro: str, version: str, user: str) -> dict[str, str]:
    return {"os_type": "linux", "os_distro": distro, "os_version": version, "os_admin_user": user,
            "hw_rng_model": "virtio"}  # fmt: skip


_DEBIAN = "https://cloud.debian.org/images/cloud"
_UBUNTU = "https://cloud-images.ubuntu.com"
_CIRROS = "https://download.cirros-cloud.net/0.6.3"
_FEDORA = "https://download.fedoraproject.org/pub/fedora/linux/releases/42/Cloud/x86_64/images"
KNOWN = (
    Source("debian-12", f"{_DEBIAN}/bookworm/latest/debian-12-genericcloud-amd64.qcow2",
           checksums_url=f"{_DEBIAN}/bookworm/latest/SHA512SUMS", title="Debian 12 (bookworm)", min_disk_gb=3,
           properties=_linux("debian", "12", "debian")),
    Source("debian-13", f"{_DEBIAN}/trixie/latest/debian-13-genericcloud-amd64.qcow2",
           checksums_url=f"{_DEBIAN}/trixie/latest/SHA512SUMS", title="Debian 13 (trixie)", min_disk_gb=3,
           properties=_linux("debian", "13", "debian")),
    Source("ubuntu-22.04", f"{_UBUNTU}/jammy/current/jammy-server-cloudimg-amd64.img",
           checksums_url=f"{_UBUNTU}/jammy/current/SHA256SUMS", title="Ubuntu 22.04 LTS (jammy)", min_disk_gb=3,
           properties=_linux("ubuntu", "22.04", "ubuntu")),
    Source("ubuntu-24.04", f"{_UBUNTU}/noble/current/noble-server-cloudimg-amd64.img",
           checksums_url=f"{_UBUNTU}/noble/current/SHA256SUMS", title="Ubuntu 24.04 LTS (noble)", min_disk_gb=4,
           properties=_linux("ubuntu", "24.04", "ubuntu")),
    Source("fedora-42", f"{_FEDORA}/Fedora-Cloud-Base-Generic-42-1.1.x86_64.qcow2",
           checksums_url=f"{_FEDORA}/Fedora-Cloud-42-1.1-x86_64-CHECKSUM", title="Fedora Cloud 42", min_disk_gb=5,
           properties=_linux("fedora", "42", "fedora")),
    Source("cirros-0.6.3", f"{_CIRROS}/cirros-0.6.3-x86_64-disk.img", checksums_url=f"{_CIRROS}/MD5SUMS",
           title="CirrOS 0.6.3, a tiny test system", min_disk_gb=1, min_ram_mb=64,
           properties=_linux("cirros", "0.6.3", "cirros")),
)  # fmt: skip


def sources(path: Path | None) -> dict[str, Source]:
    """Every source by name: the known ones, then those of the operator's TOML file (`[NAME]` tables)."""
    found = {one.name: one for one in KNOWN}
    if path is None or not path.exists():
        return found
    try:
        tables = tomllib.loads(path.read_text())
        for name, table in tables.items():
            found[name] = msgspec.convert({"name": name, **table}, Source)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeDecodeError, TypeError) as error:
        raise invalid(f"{path} is no list of image sources: {error}.", hint="docs/guide/images.md shows one.") from None
    return found


def named(found: dict[str, Source], name: str) -> Source:
    """The source; NOT_FOUND when there is none of that name."""
    if name not in found:
        fault = not_found("Image source", name)
        fault.hint = f"Known: {', '.join(sorted(found))}."
        raise fault
    return found[name]


ALGORITHMS = {32: "md5", 40: "sha1", 64: "sha256", 96: "sha384", 128: "sha512"}


def digest_in(text: str, file_name: str) -> str:
    """The digest that a file of checksums says of a file; "" when it says none."""
    for line in text.splitlines():
        words = line.replace("(", " ").replace(")", " ").split()
        digests = [word.lower() for word in words if len(word) in ALGORITHMS and _hexadecimal(word)]
        if digests and any(word.lstrip("*./") == file_name for word in words):
            return digests[-1]
    return ""


def _hexadecimal(text: str) -> bool:
    return all(one in "0123456789abcdefABCDEF" for one in text)
