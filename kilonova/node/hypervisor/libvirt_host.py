"""What a host has, as libvirt tells it: NUMA cells from its capabilities, PCI devices from its node devices."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import libvirt

from kilonova.compute.contract import NumaCell, Pages, PciDevice
from kilonova.compute.contract.numa import cpu_set
from kilonova.compute.contract.topology import KIB_OF_MB, SMALL_PAGE_KIB

_KINDS = {"phys_function": "type-VF", "virt_functions": "type-PF"}


def numa_cells(capabilities: Element) -> tuple[NumaCell, ...]:
    """The cells of <capabilities>; all CPUs that are online are in `shared`."""
    return tuple(_cell(cell) for cell in capabilities.iterfind("host/topology/cells/cell"))


def _cell(cell: Element) -> NumaCell:
    cpus = [one for one in cell.iterfind("cpus/cpu") if one.get("id")]
    numbers = {int(one.get("id", "0")) for one in cpus}
    cores = {cpu_set(one.get("siblings") or one.get("id") or "", "siblings") for one in cpus}
    sizes = ((int(one.get("size", "0")), int(one.text or 0)) for one in cell.iterfind("pages"))
    return NumaCell(
        id=int(cell.get("id", "0")),
        shared=tuple(sorted(numbers)),
        memory_mb=int(cell.findtext("memory") or 0) // KIB_OF_MB,
        siblings=tuple(sorted(tuple(cpu for cpu in core if cpu in numbers) for core in cores)),
        pages=tuple(Pages(size, total) for size, total in sizes if total and size > SMALL_PAGE_KIB),
    )


def pci_devices(connection: Any) -> tuple[PciDevice, ...]:
    """All PCI devices of the host; () where this libvirt has no driver for node devices."""
    try:
        found = connection.listAllDevices(libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_PCI_DEV)
        texts = [device.XMLDesc() for device in found]
    except libvirt.libvirtError as error:
        if error.get_error_code() in (libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_NO_NODE_DEVICE):
            return ()
        raise
    return tuple(pci_device(ElementTree.fromstring(text)) for text in texts)


def pci_device(device: Element) -> PciDevice:
    """A <device> with the capability `pci`."""

    def number(name: str) -> int:
        return int(device.findtext(f"capability/{name}") or 0)

    def hexadecimal(name: str) -> str:
        element = device.find(f"capability/{name}")
        return (element.get("id", "") if element is not None else "").removeprefix("0x")

    kinds = [inner.get("type", "") for inner in device.iterfind("capability/capability")]
    numa = device.find("capability/numa")
    address = f"{number('domain'):04x}:{number('bus'):02x}:{number('slot'):02x}.{number('function'):x}"
    return PciDevice(
        address,
        hexadecimal("vendor"),
        hexadecimal("product"),
        int(numa.get("node", "0")) if numa is not None else None,
        next((_KINDS[kind] for kind in kinds if kind in _KINDS), "type-PCI"),
    )


def cpu_seconds(connection: Any) -> dict[str, float]:
    """Seconds that all CPUs spent for each purpose since the host started; {} where libvirt cannot tell."""
    try:
        told = connection.getCPUStats(libvirt.VIR_NODE_CPU_STATS_ALL_CPUS)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT:
            return {}
        raise
    return {name: told[name] / 1e9 for name in ("user", "kernel", "idle", "iowait") if name in told}
