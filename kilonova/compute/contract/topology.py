"""NUMA cells, dedicated CPUs, page sizes and PCI devices: what a host has of them, and what a guest was given."""

from __future__ import annotations

import msgspec

from kilonova.base.units import MIB

KIB_OF_MB = MIB // 1024
SMALL_PAGE_KIB = 4


class Pages(msgspec.Struct, frozen=True):
    """Pages of one size that a cell has."""

    size_kib: int
    total: int
    used: int = 0

    @property
    def free(self) -> int:
        """Pages that no guest has."""
        return self.total - self.used


class NumaCell(msgspec.Struct, frozen=True):
    """A NUMA cell of a host: CPUs by their number on the host, and what guests that are bound to it have taken."""

    id: int
    shared: tuple[int, ...]  # CPUs that guests share
    dedicated: tuple[int, ...] = ()  # CPUs that one guest has for itself
    memory_mb: int = 0
    siblings: tuple[tuple[int, ...], ...] = ()  # the threads of each core
    pages: tuple[Pages, ...] = ()  # huge ones
    pinned: tuple[int, ...] = ()  # dedicated CPUs that are taken
    memory_mb_used: int = 0  # small pages of guests that are bound here


class PciDevice(msgspec.Struct, frozen=True):
    """A PCI device that the host may give away. `aliases`: by which names it can be asked for."""

    address: str  # 0000:81:00.1
    vendor_id: str  # four hexadecimal digits
    product_id: str
    numa_node: int | None = None
    kind: str = "type-PCI"  # type-PCI | type-PF | type-VF
    aliases: tuple[str, ...] = ()


class PciPool(msgspec.Struct, frozen=True):
    """Devices of a host that are alike, and how many of them are free."""

    vendor_id: str
    product_id: str
    aliases: tuple[str, ...]
    numa_node: int | None
    total: int
    count: int  # free


class PlacedCell(msgspec.Struct, frozen=True):
    """A guest's cell: where it is on the host."""

    host_cell: int
    vcpus: tuple[int, ...]
    memory_mb: int
    cpus: tuple[tuple[int, ...], ...]  # by vCPU: the host's CPUs that it may run on; one: it is pinned
    page_kib: int = 0  # 0: whatever the host has
    reserved: tuple[int, ...] = ()  # siblings that nobody may have beside this guest


class Placed(msgspec.Struct, frozen=True):
    """What a guest was given of its host: cells (none: it floats), and PCI devices."""

    cells: tuple[PlacedCell, ...] = ()
    dedicated: bool = False
    devices: tuple[str, ...] = ()  # PCI addresses

    @property
    def pinned(self) -> frozenset[int]:
        """The host's CPUs that nobody else may have."""
        if not self.dedicated:
            return frozenset()
        own = {cpu for cell in self.cells for cpus in cell.cpus for cpu in cpus}
        return frozenset(own.union(*(cell.reserved for cell in self.cells)))


def with_taken(cell: NumaCell, placed: list[Placed]) -> NumaCell:
    """The cell with what these guests have of it."""
    pinned = {cpu for one in placed for cpu in one.pinned} & set(cell.dedicated)
    here = [part for one in placed for part in one.cells if part.host_cell == cell.id]
    pages = tuple(
        msgspec.structs.replace(
            size,
            used=sum(part.memory_mb * KIB_OF_MB // size.size_kib for part in here if part.page_kib == size.size_kib),
        )
        for size in cell.pages
    )
    small = sum(part.memory_mb for part in here if part.page_kib <= SMALL_PAGE_KIB)
    return msgspec.structs.replace(cell, pinned=tuple(sorted(pinned)), pages=pages, memory_mb_used=small)
