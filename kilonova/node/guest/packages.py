"""Which Debian packages make the guest, in which versions, and their files in the cache."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from kilonova.base.faults import Fault, unavailable
from kilonova.node.guest import tools

KERNEL = "linux-image-cloud-amd64"
ROOTS = (
    "busybox",
    "busybox-static",
    "curl",
    "dosfstools",
    "dropbear-bin",
    "e2fsprogs",
    "iputils-ping",
    "jq",
    "qemu-guest-agent",
    "socat",
    "sudo",
    "util-linux",
)
APT_LISTS = Path("/var/lib/apt/lists")


@dataclass(frozen=True)
class Package:
    """One package in the version that apt would install."""

    name: str
    version: str
    sha256: str
    depends: tuple[str, ...]

    @property
    def label(self) -> str:
        """`name=version`, as apt-get takes it."""
        return f"{self.name}={self.version}"


def parse_index(text: str) -> list[Package]:
    """The packages described by `apt-cache show` output; of alternatives (`a | b`) the first counts."""
    found = []
    for stanza in text.split("\n\n"):
        lines = (line.partition(": ") for line in stanza.splitlines() if line[:1].strip())
        fields = {name: value for name, _colon, value in lines}
        if "Package" not in fields or "Version" not in fields:
            continue
        wanted = ",".join(fields.get(kind, "") for kind in ("Depends", "Pre-Depends")).split(",")
        depends = tuple(re.split(r"[\s(:|]", one.strip())[0] for one in wanted if one.strip())
        found.append(Package(fields["Package"], fields["Version"], fields.get("SHA256", ""), depends))
    return found


Index = Callable[[list[str]], list[Package]]


def closure(roots: Iterable[str], index: Index) -> dict[str, Package]:
    """The root packages and every library package below them, by name.

    Only libraries are followed: the guest takes files out of packages and never configures them, so debconf, perl and
    the init system stay out. Raises UNAVAILABLE when a root is in no list; an unknown library is left to the
    search for shared objects, which names the program that needs it.
    """
    chosen: dict[str, Package] = {}
    wanted = sorted(set(roots))
    asked = set(wanted)
    first = True
    while wanted:
        found = {package.name: package for package in index(wanted)}
        if first and (absent := [name for name in wanted if name not in found]):
            raise unavailable(
                f"apt knows no package {', '.join(absent)}.",
                hint="Run: apt-get update. The guest needs Debian's main archive for amd64.",
            )
        first = False
        chosen |= found
        below = {name for package in found.values() for name in package.depends if name.startswith(("lib", "zlib"))}
        wanted = sorted(below - asked)
        asked |= below
    return chosen


def ask_apt(names: list[str]) -> list[Package]:
    """apt's candidates for these names; names that apt does not know are left out."""
    try:
        return parse_index(tools.run("apt-cache", "show", "--no-all-versions", *names))
    except Fault as fault:
        if "No packages found" in fault.inside:
            return []
        raise


def choose() -> tuple[Package, dict[str, Package]]:
    """The kernel's package, and all packages of the guest (the kernel among them) by name."""
    packages = closure([KERNEL, *ROOTS], ask_apt)
    image = next((name for name in packages[KERNEL].depends if name.startswith("linux-image-")), None)
    if image is None:
        raise unavailable(f"Package {KERNEL} names no kernel.", hint="Run: apt-get update")
    del packages[KERNEL]
    kernel = next(iter(closure([image], ask_apt).values()))
    return kernel, packages | {kernel.name: kernel}


def lists_stamp() -> str:
    """A short mark that changes whenever apt's package lists change; "" when there are none."""
    digest, any_list = hashlib.sha256(), False
    if APT_LISTS.is_dir():
        for path in sorted(APT_LISTS.glob("*_Packages*")):
            status = path.stat()
            digest.update(f"{path.name} {status.st_size} {status.st_mtime_ns}\n".encode())
            any_list = True
    return digest.hexdigest()[:16] if any_list else ""


def download(packages: Iterable[Package], folder: Path) -> dict[str, Path]:
    """The .deb files by package name, fetched into `folder` unless they lie there with the archive's checksum."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = list(packages)
    held = {package.name: _held(package, folder) for package in wanted}
    if missing := [package.label for package in wanted if held[package.name] is None]:
        # As root, apt would drop to a user who may not write here, and warn.
        tools.run("apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", *missing, cwd=folder)
        held = {package.name: _held(package, folder) for package in wanted}
    if absent := [package.label for package in wanted if held[package.name] is None]:
        raise unavailable(
            f"The package mirror did not give {', '.join(absent)} as its list promises.",
            hint="Run: apt-get update, and try again.",
        )
    return {name: path for name, path in held.items() if path is not None}


def _held(package: Package, folder: Path) -> Path | None:
    version = package.version.replace(":", "%3a")
    for path in folder.glob(f"{package.name}_{version}_*.deb"):
        if not package.sha256 or hashlib.sha256(path.read_bytes()).hexdigest() == package.sha256:
            return path
        path.unlink()
    return None
