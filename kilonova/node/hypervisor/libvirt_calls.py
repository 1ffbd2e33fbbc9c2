"""The calls to libvirt that `libvirt.py` makes in its threads: each takes a connection, blocks, and may be repeated."""

from __future__ import annotations

import base64
import threading
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement, tostring

import libvirt

from kilonova.compute.contract import Guest, HypervisorInfo, Power
from kilonova.node.hypervisor.domain_xml import Platform
from kilonova.node.hypervisor.libvirt_host import cpu_seconds, numa_cells

_POWER = {
    libvirt.VIR_DOMAIN_NOSTATE: Power.NOSTATE,
    libvirt.VIR_DOMAIN_RUNNING: Power.RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: Power.RUNNING,
    libvirt.VIR_DOMAIN_PAUSED: Power.PAUSED,
    libvirt.VIR_DOMAIN_SHUTDOWN: Power.RUNNING,  # on its way down, not there yet
    libvirt.VIR_DOMAIN_SHUTOFF: Power.SHUTDOWN,
    libvirt.VIR_DOMAIN_CRASHED: Power.CRASHED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: Power.SUSPENDED,
}


def alive(connection: Any) -> bool:
    try:
        return bool(connection.isAlive())
    except libvirt.libvirtError:
        return False


def close(connection: Any) -> None:
    try:
        connection.unregisterCloseCallback()
        connection.close()
    except libvirt.libvirtError:
        pass


def keep_keys(connection: Any, keys: Mapping[str, str]) -> None:
    """libvirt has these Ceph keys by their ids, for QEMU alone: in memory, and never told again."""
    for uuid, key in keys.items():
        secret = Element("secret", ephemeral="yes", private="yes")
        SubElement(secret, "uuid").text = uuid
        usage = SubElement(secret, "usage", type="ceph")
        SubElement(usage, "name").text = f"kilonova {uuid}"
        kept = connection.secretDefineXML(tostring(secret, encoding="unicode"), 0)
        kept.setValue(base64.b64decode(key), 0)


def info(connection: Any, platform: Platform) -> HypervisorInfo:
    model, _, cpus, *_ = connection.getInfo()
    capabilities = ElementTree.fromstring(connection.getCapabilities())
    host_cpu = capabilities.find("host/cpu")
    vendor = host_cpu.findtext("vendor") if host_cpu is not None else ""
    topology = host_cpu.find("topology") if host_cpu is not None else None
    return HypervisorInfo(
        type="KVM" if platform.accelerator == "kvm" else "QEMU",
        version=connection.getVersion(),
        vcpus=cpus,
        # getInfo counts the memory of the NUMA nodes in /sys, which leaves out what was plugged in later.
        memory_mb=connection.getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS)["total"] // 1024,
        cpu_info={
            "arch": model,
            "model": (host_cpu.findtext("model") if host_cpu is not None else "") or "",
            "vendor": vendor or "",
            "topology": {k: int(v) for k, v in topology.items() if v.isdigit()} if topology is not None else {},
            "features": sorted(f.get("name", "") for f in host_cpu.iter("feature")) if host_cpu is not None else [],
        },
        traits=(
            "COMPUTE_NODE",
            "COMPUTE_IMAGE_TYPE_QCOW2",
            "COMPUTE_IMAGE_TYPE_RAW",
            "COMPUTE_GRAPHICS_MODEL_VGA",
            f"HW_ARCH_{model.upper()}",
        ),
        cells=numa_cells(capabilities),
        cpu_seconds=cpu_seconds(connection),
    )


def _power(domain: Any) -> Power:
    state, reason = domain.state()
    if state == libvirt.VIR_DOMAIN_SHUTOFF and reason in (
        libvirt.VIR_DOMAIN_SHUTOFF_CRASHED,
        libvirt.VIR_DOMAIN_SHUTOFF_FAILED,
    ):
        return Power.CRASHED
    return _POWER.get(state, Power.NOSTATE)


def _seen(domain: Any) -> Guest:
    return Guest(id=domain.UUIDString(), name=domain.name(), power=_power(domain))


def _find(connection: Any, guest_id: str) -> Any:
    """The domain, or None."""
    try:
        return connection.lookupByUUIDString(guest_id)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise


def look(connection: Any, guest_id: str) -> Guest:
    return _seen(connection.lookupByUUIDString(guest_id))


def all_guests(connection: Any) -> list[Guest]:
    found = []
    for domain in connection.listAllDomains():
        try:
            found.append(_seen(domain))
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:  # gone meanwhile
                raise
    return found


def powers_of(connection: Any, guest_id: str) -> dict[str, Power]:
    """Power of one guest, or of all for ""; empty when it is gone."""
    if not guest_id:
        return {guest.id: guest.power for guest in all_guests(connection)}
    domain = _find(connection, guest_id)
    try:
        return {} if domain is None else {guest_id: _power(domain)}
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return {}
        raise


def ensure_started(connection: Any, guest_id: str, xml: str, paused: bool) -> Guest:
    domain = _find(connection, guest_id)
    if domain is None or not domain.isActive():
        domain = connection.defineXML(xml)
        try:
            flags = libvirt.VIR_DOMAIN_START_FORCE_BOOT  # never on from memory that was saved: disks have moved on
            domain.createWithFlags(flags | (libvirt.VIR_DOMAIN_START_PAUSED if paused else 0))
        except libvirt.libvirtError:
            if not domain.isActive():  # else another call started it
                raise
    return _seen(domain)


def resume(connection: Any, guest_id: str) -> Guest:
    domain = connection.lookupByUUIDString(guest_id)
    if _power(domain) is Power.PAUSED:
        domain.resume()
    return _seen(domain)


def press_power_button(connection: Any, guest_id: str) -> None:
    try:
        connection.lookupByUUIDString(guest_id).shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_OPERATION_INVALID:  # it went off meanwhile
            raise


def cut_power(connection: Any, guest_id: str) -> Guest:
    """Off, and not to run on from memory that was saved."""
    domain = connection.lookupByUUIDString(guest_id)
    if domain.isActive():
        _destroy(domain)
    if domain.hasManagedSaveImage():
        domain.managedSaveRemove()
    return _seen(domain)


def pause(connection: Any, guest_id: str) -> Guest:
    domain = connection.lookupByUUIDString(guest_id)
    if _power(domain) is Power.RUNNING:
        domain.suspend()
    return _seen(domain)


def save(connection: Any, guest_id: str) -> Guest:
    domain = connection.lookupByUUIDString(guest_id)
    if domain.isActive():
        domain.managedSave(libvirt.VIR_DOMAIN_SAVE_RUNNING)
    return _seen(domain)


def restore(connection: Any, guest_id: str, xml: str) -> Guest:
    """Runs on from saved memory. That has a definition of its own: what is defined now must not replace it."""
    domain = _find(connection, guest_id)
    if domain is None or not (domain.isActive() or domain.hasManagedSaveImage()):
        return ensure_started(connection, guest_id, xml, False)
    if not domain.isActive():
        domain.create()
    elif _power(domain) is Power.PAUSED:
        domain.resume()
    return _seen(domain)


def _destroy(domain: Any) -> None:
    """The guest's process has ended; libvirt gives up on a process that hangs in the kernel, so ask again."""
    for attempt in range(3):
        try:
            domain.destroy()
            return
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_OPERATION_INVALID:  # not running any more
                return
            if attempt == 2:
                raise
            threading.Event().wait(1)


def remove(connection: Any, guest_id: str) -> None:
    domain = _find(connection, guest_id)
    if domain is None:
        return
    if domain.isActive():
        _destroy(domain)
    try:
        domain.undefineFlags(
            libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
            | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
            | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
            | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
        )
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
            raise


def vnc_address(connection: Any, guest_id: str) -> tuple[str, int] | None:
    domain = connection.lookupByUUIDString(guest_id)
    if not domain.isActive():
        return None
    graphics = ElementTree.fromstring(domain.XMLDesc()).find("devices/graphics[@type='vnc']")
    port = int(graphics.get("port", "-1")) if graphics is not None else -1
    if graphics is None or port < 0:
        return None
    return (graphics.get("listen") or "127.0.0.1", port)
