"""What a guest asks of NUMA, dedicated CPUs and pages, from flavor and image; and whether a host's cells can give it.

Both the scheduler, who asks, and the host, who gives, use this: they are of one mind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from kilonova.base.faults import Fault, invalid
from kilonova.compute.contract.pci import pci_wanted
from kilonova.compute.contract.server import Flavor
from kilonova.compute.contract.topology import KIB_OF_MB, SMALL_PAGE_KIB, NumaCell, Placed, PlacedCell

_CELLS_MOST: Final = 16
_TRIED_MOST: Final = 2000  # cells that are looked at for one guest
_UNITS: Final = {"kib": 1, "kb": 1, "mib": 1024, "mb": 1024, "gib": 1 << 20, "gb": 1 << 20}
LARGE, ANY, SMALL = "large", "any", "small"


class GuestCell(msgspec.Struct, frozen=True):
    """A NUMA cell that the guest sees."""

    vcpus: tuple[int, ...]
    memory_mb: int


class Topology(msgspec.Struct, frozen=True):
    """What is asked for. `pages`: "" (whatever there is), small, large, any, or a size in KiB as digits."""

    cells: tuple[GuestCell, ...]
    dedicated: bool = False
    threads: str = "prefer"  # prefer | isolate | require: how pinned CPUs lie on cores
    pages: str = ""


def topology_of(flavor: Flavor, image: Mapping[str, str]) -> Topology | None:
    """What flavor and image ask for together; None: nothing of the kind. INVALID when they contradict each other."""
    specs = flavor.extra_specs
    dedicated = _policy(specs.get("hw:cpu_policy", ""), image.get("hw_cpu_policy", ""))
    threads = _one_of(specs, image, "cpu_thread_policy", ("prefer", "isolate", "require"))
    pages = _pages(specs.get("hw:mem_page_size", ""), image.get("hw_mem_page_size", ""))
    count = _count(specs, image)
    if threads and not dedicated:
        raise _bad("hw:cpu_thread_policy needs hw:cpu_policy=dedicated")
    if not (dedicated or count or pages not in ("", SMALL)):
        return None
    return Topology(_cells(flavor, image, count or 1), dedicated, threads or "prefer", pages)


def is_dedicated(flavor: Flavor, image: Mapping[str, str]) -> bool:
    """Whether each of the guest's CPUs is to be one of the host's that nobody else has."""
    return "dedicated" in (flavor.extra_specs.get("hw:cpu_policy"), image.get("hw_cpu_policy"))


def check_placeable(flavor: Flavor, image: Mapping[str, str]) -> None:
    """INVALID when flavor and image ask for what cannot be, however much a host has."""
    topology_of(flavor, image)
    pci_wanted(flavor.extra_specs)


def _bad(why: str) -> Fault:
    return invalid(
        f"The flavor and the image cannot be served together: {why}.", hint="Choose another flavor or image."
    )


def _policy(flavor: str, image: str) -> bool:
    for value in (flavor, image):
        if value not in ("", "shared", "dedicated"):
            raise _bad(f"CPU policy {value[:40]!r} is none of shared, dedicated")
    if flavor == "shared" and image == "dedicated":
        raise _bad("the image asks for dedicated CPUs and the flavor for shared ones")
    return "dedicated" in (flavor, image)


def _one_of(specs: Mapping[str, str], image: Mapping[str, str], name: str, known: tuple[str, ...]) -> str:
    flavor, other = specs.get(f"hw:{name}", ""), image.get(f"hw_{name}", "")
    for value in (flavor, other):
        if value and value not in known:
            raise _bad(f"{name} {value[:40]!r} is none of {', '.join(known)}")
    if flavor and other and flavor != other:
        raise _bad(f"the image asks for {name} {other} and the flavor for {flavor}")
    return flavor or other


def _pages(flavor: str, image: str) -> str:
    if image and flavor not in (LARGE, ANY):
        raise _bad("an image may choose the page size only when the flavor says hw:mem_page_size large or any")
    return _page_words(image or flavor)


def _page_words(text: str) -> str:
    """`large`, `any`, `small`, "", or KiB as digits: "2MB" → "2048"."""
    word = text.strip().lower()
    if word in ("", LARGE, ANY, SMALL):
        return word
    digits = word.rstrip("kmgib")
    unit = word[len(digits) :] or "kib"
    if not digits.isdigit() or not int(digits) or unit not in _UNITS:
        raise _bad(f"page size {text[:40]!r} is none of small, large, any or a size such as 2MB")
    size = int(digits) * _UNITS[unit]
    return SMALL if size == SMALL_PAGE_KIB else str(size)


def _count(specs: Mapping[str, str], image: Mapping[str, str]) -> int:
    flavor, other = specs.get("hw:numa_nodes", ""), image.get("hw_numa_nodes", "")
    if flavor and other and flavor != other:
        raise _bad("the image asks for other NUMA nodes than the flavor")
    text = flavor or other
    if text and not (text.isdigit() and 1 <= int(text) <= _CELLS_MOST):
        raise _bad(f"{text[:20]!r} NUMA nodes: a number from 1 to {_CELLS_MOST} is needed")
    return int(text or 0)


def _cells(flavor: Flavor, image: Mapping[str, str], count: int) -> tuple[GuestCell, ...]:
    """As `hw:numa_cpus.N` and `hw:numa_mem.N` say for all nodes, or else equal parts."""

    def told(name: str, number: int) -> str:
        return flavor.extra_specs.get(f"hw:{name}.{number}", "") or image.get(f"hw_{name}.{number}", "")

    listed = [(told("numa_cpus", number), told("numa_mem", number)) for number in range(count)]
    if not any(cpus or memory for cpus, memory in listed):
        if flavor.vcpus % count or flavor.memory_mb % count:
            raise _bad(
                f"{flavor.vcpus} CPUs and {flavor.memory_mb} MB cannot be divided evenly among {count} NUMA nodes"
            )
        each = flavor.vcpus // count
        return tuple(
            GuestCell(tuple(range(number * each, (number + 1) * each)), flavor.memory_mb // count)
            for number in range(count)
        )
    if not all(cpus and memory.isdigit() and int(memory) for cpus, memory in listed):
        raise _bad("hw:numa_cpus.N and hw:numa_mem.N must be given for each NUMA node, or for none")
    cells = tuple(GuestCell(cpu_set(cpus, "hw:numa_cpus"), int(memory)) for cpus, memory in listed)
    if sorted(cpu for cell in cells for cpu in cell.vcpus) != list(range(flavor.vcpus)):
        raise _bad(f"hw:numa_cpus.N must name each of the {flavor.vcpus} CPUs once")
    if sum(cell.memory_mb for cell in cells) != flavor.memory_mb:
        raise _bad(f"hw:numa_mem.N must add up to {flavor.memory_mb} MB")
    return cells


def cpu_set(text: str, name: str) -> tuple[int, ...]:
    """`0-3,^2,8`: the CPUs it names, ascending. INVALID names the setting."""
    found: set[int] = set()
    out: set[int] = set()
    for part in filter(None, (one.strip() for one in text.split(","))):
        first, dash, last = part.removeprefix("^").partition("-")
        ends = (first, last if dash else first)
        if not all(end.strip().isdigit() for end in ends) or int(ends[1]) > 4095 or int(ends[0]) > int(ends[1]):
            raise invalid(f"{name} {text[:60]!r} is no set of CPUs.", hint="Write it as 0-3,^2,8.")
        (out if part.startswith("^") else found).update(range(int(ends[0]), int(ends[1]) + 1))
    return tuple(sorted(found - out))


# ── what a host can give


def fit(cells: Sequence[NumaCell], wanted: Topology) -> Placed | str:
    """How the guest's cells lie on the host's, each on one of its own; or why they do not."""
    if len(wanted.cells) > len(cells):
        return (
            f"it has {len(cells)} NUMA cells, {len(wanted.cells)} are wanted" if cells else "it tells of no NUMA cells"
        )
    # emptier cells first where the host has a choice
    order = sorted(cells, key=lambda one: (len(one.pinned), one.memory_mb_used, one.id))
    search = _Search(order, wanted)
    return Placed(tuple(search.placed), wanted.dedicated) if search.lay(0) else search.why


class _Search:
    """Lays the guest's cells one after the other, and goes back when one finds no place; with an end to patience."""

    def __init__(self, order: Sequence[NumaCell], wanted: Topology) -> None:
        self.placed: list[PlacedCell] = []
        self.why = ""
        self._order, self._wanted = order, wanted
        self._left = _TRIED_MOST

    def lay(self, number: int) -> bool:
        """Whether the cells from `number` on found places of their own."""
        if number == len(self._wanted.cells):
            return True
        for host in self._order:
            if any(one.host_cell == host.id for one in self.placed) or not self._left:
                continue
            self._left -= 1
            part = _on_cell(host, self._wanted.cells[number], self._wanted)
            if isinstance(part, str):
                self.why = self.why or part
                continue
            self.placed.append(part)
            if self.lay(number + 1):
                return True
            self.placed.pop()
        return False


def _on_cell(host: NumaCell, guest: GuestCell, wanted: Topology) -> PlacedCell | str:
    page_kib = _page(host, guest, wanted.pages)
    if isinstance(page_kib, str):
        return page_kib
    small = page_kib <= SMALL_PAGE_KIB
    if small and host.memory_mb_used + guest.memory_mb > _small_memory_mb(host):
        left = max(_small_memory_mb(host) - host.memory_mb_used, 0)
        return f"NUMA cell {host.id} has {left} MB free, {guest.memory_mb} are wanted"
    if not wanted.dedicated:
        if not host.shared:
            return f"NUMA cell {host.id} has no CPUs that guests share"
        return PlacedCell(host.id, guest.vcpus, guest.memory_mb, (host.shared,) * len(guest.vcpus), page_kib)
    picked = _pick(host, len(guest.vcpus), wanted.threads)
    if isinstance(picked, str):
        return picked
    cpus, reserved = picked
    return PlacedCell(host.id, guest.vcpus, guest.memory_mb, tuple((cpu,) for cpu in cpus), page_kib, reserved)


def _small_memory_mb(host: NumaCell) -> int:
    """The cell's memory that is not set aside for huge pages."""
    return host.memory_mb - sum(one.size_kib * one.total for one in host.pages) // KIB_OF_MB


def _page(host: NumaCell, guest: GuestCell, pages: str) -> int | str:
    """The page size in KiB, 0 for whatever the host has; or why none."""
    if pages in ("", SMALL):
        return SMALL_PAGE_KIB if pages else 0
    needed_kib = guest.memory_mb * KIB_OF_MB
    for one in sorted(host.pages, key=lambda size: size.size_kib, reverse=True):
        named = pages in (LARGE, ANY) or int(pages) == one.size_kib
        if named and needed_kib % one.size_kib == 0 and one.free >= needed_kib // one.size_kib:
            return one.size_kib
    if pages == ANY:
        return SMALL_PAGE_KIB
    free = ", ".join(f"{one.free} of {one.size_kib} KiB" for one in host.pages) or "none"
    which = "large" if pages == LARGE else f"{pages} KiB"
    return f"NUMA cell {host.id} has not enough {which} pages for {guest.memory_mb} MB (free: {free})"


def _pick(host: NumaCell, count: int, threads: str) -> tuple[tuple[int, ...], tuple[int, ...]] | str:
    """(the CPUs to pin to, siblings that stay unused for it); or why there are not so many."""
    free = set(host.dedicated) - set(host.pinned)
    cores = [tuple(cpu for cpu in core if cpu in host.dedicated) for core in host.siblings] or [
        (cpu,) for cpu in host.dedicated
    ]
    whole = [core for core in cores if core and free.issuperset(core)]
    if threads == "isolate":
        if len(whole) >= count:
            return tuple(core[0] for core in whole[:count]), tuple(cpu for core in whole[:count] for cpu in core[1:])
        return f"NUMA cell {host.id} has {len(whole)} whole cores free, {count} are wanted"
    if threads == "require":
        whole = [core for core in whole if len(core) > 1]
        found = [cpu for core in whole for cpu in core]
        if len(found) >= count:
            return tuple(found[:count]), ()
        return f"NUMA cell {host.id} has {len(found)} threads of free cores, {count} are wanted"
    if len(free) < count:
        return f"NUMA cell {host.id} has {len(free)} dedicated CPUs free, {count} are wanted"
    return tuple(_packed(cores, free)[:count]), ()


def _packed(cores: Iterable[tuple[int, ...]], free: set[int]) -> list[int]:
    """Free CPUs, those of cores that are in use already last: siblings of one guest share a core."""
    return [cpu for core in sorted(cores, key=lambda one: -len(free.intersection(one))) for cpu in core if cpu in free]
