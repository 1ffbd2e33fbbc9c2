"""What the clouds of one machine must not share: the characters that their names begin with, their VXLAN numbers, their
floating ranges. Each cloud claims its own when it first comes up, and has them until it is purged.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import ipaddress
import os
import socket
from collections.abc import Collection, Iterator
from pathlib import Path

import msgspec

from kilonova.base.faults import conflict
from kilonova.node.vswitch.names import link_addresses, prefix_of

CLAIMS = Path("/run/kilonova/claims.json")
PUBLIC_RANGES = [f"172.24.{third}.0/24" for third in range(4, 250)]
VNI_BLOCK = 4096
VNI_BLOCKS = 4000
PREFIXES = 4096  # what prefix_of can give


class Claim(msgspec.Struct, frozen=True):
    """What is one cloud's alone on this machine."""

    prefix: str
    vni_first: int  # of VNI_BLOCK numbers
    public_cidr: str


def claim(directory: Path, known: Claim | None, file: Path = CLAIMS) -> Claim:
    """What the cloud in `directory` has to itself: what it had, or else what nobody has or is about to take.

    CONFLICT when another cloud took what it had. Without root nothing real is built, so nothing is claimed."""
    try:
        with _held(file):
            others = {owner: held for owner, held in _read(file).items() if owner != str(directory)}
            older = _ranges_of_old(file, {*others, str(directory)})
            made = known or _free(directory, list(others.values()), older)
            if owner := next((owner for owner, held in others.items() if _meet(made, held)), ""):
                raise conflict(
                    f"The cloud in {owner} has taken names, VXLAN numbers or the floating range of this one.",
                    hint=f"Purge one of the two: `kilonova down --purge --state {owner}`, or this one.",
                )
            _write(file, {**others, str(directory): made})
    except PermissionError:
        return known or _free(directory, [], [])
    return made


def release(directory: Path, file: Path = CLAIMS) -> None:
    """The cloud in `directory` is gone, and so is its claim; after the last one nothing is left of the file."""
    if file.exists():
        with contextlib.suppress(PermissionError), _held(file):
            _write(file, {owner: held for owner, held in _read(file).items() if owner != str(directory)})


@contextlib.contextmanager
def _held(file: Path) -> Iterator[None]:
    """Nobody else claims meanwhile: the lock is on the directory, which leaves no file behind."""
    while True:
        file.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            handle = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                if os.path.samestat(os.fstat(handle), file.parent.stat()):  # not removed while we waited
                    yield
                    return
            finally:
                os.close(handle)


def _read(file: Path) -> dict[str, Claim]:
    """state directory → its claim; one whose directory is gone has none."""
    try:
        held = msgspec.json.decode(file.read_bytes(), type=dict[str, Claim])
    except FileNotFoundError:
        return {}
    return {owner: one for owner, one in held.items() if Path(owner).exists()}


def _write(file: Path, claims: dict[str, Claim]) -> None:
    if not claims:
        file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # what a running cloud keeps beside it
            file.parent.rmdir()
        return
    new = file.with_suffix(".new")
    new.write_bytes(msgspec.json.format(msgspec.json.encode(claims)))
    new.replace(file)


def _meet(one: Claim, other: Claim) -> bool:
    ranges = [ipaddress.ip_network(claim.public_cidr) for claim in (one, other)]
    return _prefixes_meet(one.prefix, other.prefix) or one.vni_first == other.vni_first or ranges[0].overlaps(ranges[1])


def _prefixes_meet(one: str, other: str) -> bool:
    """The same names, or the same addresses on the wires to the machine, which follow from the prefix."""
    return one == other or link_addresses(one) == link_addresses(other)


def _ranges_of_old(file: Path, claimed: Collection[str]) -> list[str]:
    """Floating ranges in the file that an older Kilonova kept, of clouds that have not come up with this one since.

    The file goes with the last of them."""
    old = file.with_name("public-ranges.json")
    try:
        owners = msgspec.json.decode(old.read_bytes(), type=dict[str, str])
    except (FileNotFoundError, msgspec.DecodeError):
        owners = {}
    held = [cidr for cidr, owner in owners.items() if owner not in claimed and Path(owner).exists()]
    if not held:
        for stale in (old, old.with_suffix(".lock")):
            stale.unlink(missing_ok=True)
    return held


def _free(directory: Path, others: list[Claim], older: list[str]) -> Claim:
    taken = [*routes_here(), *older]
    return Claim(
        prefix=_free_prefix(directory, [other.prefix for other in others], names_here(), taken),
        vni_first=_free_vni(directory, {other.vni_first for other in others}),
        public_cidr=free_public_cidr([*taken, *(other.public_cidr for other in others)]),
    )


def _free_prefix(directory: Path, others: list[str], names: list[str], routes: list[str]) -> str:
    used = [ipaddress.ip_network(route, strict=False) for route in routes]
    for attempt in range(4 * PREFIXES):  # each draw is as good as the one before it
        prefix = prefix_of(str(directory), attempt)
        wire = ipaddress.ip_network(f"{link_addresses(prefix)[0]}/31")
        if (
            not any(_prefixes_meet(prefix, other) for other in others)
            and not any(name.startswith(prefix) for name in names)
            and not any(wire.overlaps(network) for network in used)
        ):
            return prefix
    raise conflict("No names for another cloud are left on this machine.", hint="Purge a cloud that you do not need.")


def _free_vni(directory: Path, others: set[int]) -> int:
    start = int.from_bytes(hashlib.sha256(str(directory).encode()).digest()[4:6], "big")
    blocks = ((start + further) % VNI_BLOCKS for further in range(VNI_BLOCKS))
    found = next((first for block in blocks if (first := block * VNI_BLOCK + 1) not in others), 0)
    if not found:
        raise conflict("No VXLAN numbers are left on this machine.", hint="Purge a cloud that you do not need.")
    return found


def names_here() -> list[str]:
    """Interfaces of this machine's root namespace, and named namespaces."""
    return [path.name for place in ("/sys/class/net", "/run/netns") for path in Path(place).glob("*")]


def free_public_cidr(taken: list[str]) -> str:
    """A floating range that no address or route of this machine overlaps."""
    used = [ipaddress.ip_network(cidr, strict=False) for cidr in taken]
    for candidate in PUBLIC_RANGES:
        network = ipaddress.ip_network(candidate)
        if not any(network.version == other.version and network.overlaps(other) for other in used):
            return candidate
    raise conflict(
        "No free range for floating IPs is left on this machine.", hint="Take down a cloud that you do not need."
    )


def routes_here() -> list[str]:
    """Every IPv4 destination this machine has an address or route for, but the default."""
    found = []
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        fields = line.split()
        destination, mask = int(fields[1], 16), int(fields[7], 16)
        if mask:
            address = socket.inet_ntoa(destination.to_bytes(4, "little"))
            found.append(f"{address}/{bin(mask).count('1')}")
    return found + destinations_in(Path("/proc/net/fib_trie").read_text())


def destinations_in(trie: str) -> list[str]:
    """The networks and addresses of a routing table as the kernel prints it, without default routes and loopback.

    A line "/24 link UNICAST" is one, with the address of the "|--" above it. A "+--" only says how the kernel keeps
    them: two wires of clouds have a node above them that covers all wires there could be."""
    found, address = [], ""
    for line in trie.splitlines():
        text = line.strip()
        if text.startswith("|-- "):
            address = text.removeprefix("|-- ")
        elif text.startswith("/") and address:
            network = ipaddress.ip_network(f"{address}{text.split()[0]}", strict=False)
            if network.prefixlen >= 8 and not network.is_loopback:
                found.append(str(network))
    return found
