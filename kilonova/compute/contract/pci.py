"""PCI devices asked for by alias: `pci_passthrough:alias` = "gpu:2, nic:1"."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from kilonova.base.faults import invalid
from kilonova.compute.contract.topology import PciDevice, PciPool

ALIAS = "pci_passthrough:alias"


def pci_wanted(specs: Mapping[str, str]) -> Counter[str]:
    """How many devices of each alias a flavor asks for. INVALID when it is written otherwise."""
    wanted: Counter[str] = Counter()
    for part in filter(None, (one.strip() for one in specs.get(ALIAS, "").split(","))):
        alias, colon, count = (word.strip() for word in part.partition(":"))
        if not alias or (colon and not (count.isdigit() and int(count))):
            raise invalid(f"The flavor's {ALIAS} {part[:60]!r} is not NAME:COUNT.", hint="Ask the operator.")
        wanted[alias] += int(count or 1)
    return wanted


def pools_of(devices: Iterable[PciDevice], taken: frozenset[str]) -> list[PciPool]:
    """Devices that are alike, counted."""
    total: Counter[tuple[str, str, tuple[str, ...], int | None]] = Counter()
    free: Counter[tuple[str, str, tuple[str, ...], int | None]] = Counter()
    for one in devices:
        key = one.vendor_id, one.product_id, one.aliases, one.numa_node
        total[key] += 1
        free[key] += one.address not in taken
    return [PciPool(*key, total=number, count=free[key]) for key, number in total.items()]


def choose_devices(
    devices: Sequence[PciDevice], taken: frozenset[str], wanted: Mapping[str, int], near: frozenset[int]
) -> tuple[str, ...] | str:
    """The addresses of devices to give, those on the guest's own NUMA cells first; or why there are not enough."""
    given: list[str] = []
    for alias, count in wanted.items():
        free = [d for d in devices if alias in d.aliases and d.address not in taken and d.address not in given]
        if len(free) < count:
            return f"it has {len(free)} free PCI devices {alias}, {count} are wanted"
        free.sort(key=lambda one: (one.numa_node not in near if near else False, len(one.aliases), one.address))
        given += [one.address for one in free[:count]]
    return tuple(given)


@dataclass(frozen=True)
class PciMatch:
    """Which PCI devices are meant; "" is any. Ids are four hexadecimal digits, an address is 0000:81:00.1."""

    vendor_id: str = ""
    product_id: str = ""
    address: str = ""
    device_type: str = ""  # type-PCI | type-PF | type-VF
    name: str = ""  # of an alias: by which flavors ask, pci_passthrough:alias = NAME:COUNT

    def fits(self, device: PciDevice) -> bool:
        """Whether the device is one of them."""
        asked = (self.vendor_id, self.product_id, self.address, self.device_type)
        has = (device.vendor_id, device.product_id, device.address, device.kind)
        return all(one in ("", other) for one, other in zip(asked, has, strict=True))


@dataclass(frozen=True)
class PciSettings:
    """The devices that hosts give away, and the names by which flavors ask for them. A host gives none unless told."""

    device_spec: tuple[PciMatch, ...] = ()
    alias: tuple[PciMatch, ...] = ()

    def __post_init__(self) -> None:
        for one in self.alias:
            if not one.name:
                raise invalid("A [pci] alias has no name.", hint='[[pci.alias]]\n  name = "gpu"\n  vendor_id = "10de"')
        for spec in self.device_spec:
            if not (spec.vendor_id or spec.product_id or spec.address):
                raise invalid("A [pci] device_spec names no device.", hint="Give vendor_id, product_id or address.")

    def named(self, device: PciDevice) -> PciDevice | None:
        """The device with its names, or None when it is not given away."""
        if not any(spec.fits(device) for spec in self.device_spec):
            return None
        names = tuple(sorted({one.name for one in self.alias if one.fits(device)}))
        return msgspec.structs.replace(device, aliases=names)


class HostPart(msgspec.Struct, frozen=True):
    """Which CPUs and devices of a host are for whom; operators set this. Sets of CPUs are written as `0-3,^2`."""

    cpu_shared_set: str = ""
    cpu_dedicated_set: str = ""
    pci: PciSettings = PciSettings()

    @property
    def divides(self) -> bool:
        """Whether some CPUs are not for everybody."""
        return bool(self.cpu_shared_set or self.cpu_dedicated_set)
