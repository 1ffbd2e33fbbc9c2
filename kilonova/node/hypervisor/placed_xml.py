"""The parts of a guest's XML that bind it to its host: CPUs, NUMA cells, pages, PCI devices."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from xml.etree.ElementTree import Element, SubElement

from kilonova.base.units import MIB
from kilonova.compute.contract import GuestSpec, PlacedCell

_SMALL_PAGE_KIB: Final = 4
_ADDRESS: Final = re.compile(r"([0-9a-f]{4}):([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])")


def memory_backing(domain: Element, spec: GuestSpec) -> None:
    """Huge pages, by the guest's cells."""
    sizes: dict[int, list[int]] = {}
    for number, cell in enumerate(spec.placed.cells):
        if cell.page_kib > _SMALL_PAGE_KIB:
            sizes.setdefault(cell.page_kib, []).append(number)
    if not sizes:
        return
    pages = SubElement(SubElement(domain, "memoryBacking"), "hugepages")
    for size_kib, cells in sorted(sizes.items()):
        SubElement(pages, "page", size=str(size_kib), unit="KiB", nodeset=numbers(cells))


def cpu_tune(domain: Element, spec: GuestSpec, *, shares: bool) -> None:
    """Shares of busy CPUs; and on which of the host's CPUs each vCPU, and QEMU's own threads, run."""
    cells = spec.placed.cells
    if not cells and not (spec.vcpu_shares and shares):
        return
    tune = SubElement(domain, "cputune")
    if spec.vcpu_shares and shares:
        SubElement(tune, "shares").text = str(spec.vcpu_shares)
    pins = {vcpu: cpus for cell in cells for vcpu, cpus in zip(cell.vcpus, cell.cpus, strict=True)}
    for vcpu, cpus in sorted(pins.items()):
        SubElement(tune, "vcpupin", vcpu=str(vcpu), cpuset=numbers(cpus))
    if pins:
        SubElement(tune, "emulatorpin", cpuset=numbers({cpu for cpus in pins.values() for cpu in cpus}))


def numa_tune(domain: Element, spec: GuestSpec) -> None:
    """Memory comes from the cells that the vCPUs run in, and from no other."""
    cells = spec.placed.cells
    if not cells:
        return
    tune = SubElement(domain, "numatune")
    SubElement(tune, "memory", mode="strict", nodeset=numbers(cell.host_cell for cell in cells))
    for number, cell in enumerate(cells):
        SubElement(tune, "memnode", cellid=str(number), mode="strict", nodeset=str(cell.host_cell))


def guest_cells(cpu: Element, cells: tuple[PlacedCell, ...]) -> None:
    """The NUMA cells that the guest itself sees."""
    if not cells:
        return
    numa = SubElement(cpu, "numa")
    for number, cell in enumerate(cells):
        size = str(cell.memory_mb * MIB // 1024)
        SubElement(numa, "cell", id=str(number), cpus=numbers(cell.vcpus), memory=size, unit="KiB")


def host_devices(devices: Element, spec: GuestSpec) -> None:
    """PCI devices of the host; libvirt takes them from the host's driver and gives them back."""
    for address in spec.placed.devices:
        found = _ADDRESS.fullmatch(address)
        assert found is not None, f"{address} is no PCI address"
        domain, bus, slot, function = found.groups()
        element = SubElement(devices, "hostdev", mode="subsystem", type="pci", managed="yes")
        source = SubElement(element, "source")
        SubElement(source, "address", domain=f"0x{domain}", bus=f"0x{bus}", slot=f"0x{slot}", function=f"0x{function}")


def numbers(of: Iterable[int]) -> str:
    """`0-3,8`: ascending numbers as libvirt writes sets."""
    parts: list[list[int]] = []
    for number in sorted(set(of)):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
