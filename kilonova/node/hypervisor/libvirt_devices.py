"""Calls to libvirt that plug disks and NICs into guests and take them out: blocking, and each may be repeated."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import libvirt

Finds = Callable[[ElementTree.Element], ElementTree.Element | None]

# What libvirt says to a second request while QEMU still waits for the guest: no failure.
_UNPLUG_PENDING = ("already in the process of unplug", "device not found", "not found")


def disk_by_serial(serial: str) -> Finds:
    """Finds a disk in a domain's XML."""

    def find(domain: ElementTree.Element) -> ElementTree.Element | None:
        disks = domain.iterfind("devices/disk")
        return next((disk for disk in disks if disk.findtext("serial") == serial), None)

    return find


def nic_by_address(mac: str) -> Finds:
    """Finds a NIC in a domain's XML."""

    def find(domain: ElementTree.Element) -> ElementTree.Element | None:
        for nic in domain.iterfind("devices/interface"):
            address = nic.find("mac")
            if address is not None and (address.get("address") or "").lower() == mac.lower():
                return nic
        return None

    return find


def _domain(connection: Any, guest_id: str) -> Any:
    """The domain, or None when it is not defined."""
    try:
        return connection.lookupByUUIDString(guest_id)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise


def _kept(domain: Any) -> ElementTree.Element:
    """What the guest has at its next start."""
    return ElementTree.fromstring(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))


def grew(connection: Any, guest_id: str, finds: Finds) -> None:
    """A running guest sees its disk as large as the file behind it is now."""
    domain = _domain(connection, guest_id)
    if domain is None or not domain.isActive():
        return
    disk = finds(ElementTree.fromstring(domain.XMLDesc()))
    source, target = (None, None) if disk is None else (disk.find("source"), disk.find("target"))
    if source is not None and target is not None and (path := source.get("file")):
        size_bytes = os.stat(path).st_size
        domain.blockResize(target.get("dev"), size_bytes, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)


def plug(connection: Any, guest_id: str, xml: str, finds: Finds) -> None:
    """The guest has the device, now when it is on, and at its next start."""
    domain = _domain(connection, guest_id)
    if domain is None:
        return
    if domain.isActive() and finds(ElementTree.fromstring(domain.XMLDesc())) is None:
        domain.attachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    if finds(_kept(domain)) is None:
        domain.attachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_CONFIG)


def has_now(connection: Any, guest_id: str, finds: Finds) -> bool:
    """Whether the guest that is on has the device. libvirt forgets it when QEMU says that the guest let go."""
    domain = _domain(connection, guest_id)
    if domain is None or not domain.isActive():
        return False
    return finds(ElementTree.fromstring(domain.XMLDesc())) is not None


def ask_to_let_go(connection: Any, guest_id: str, finds: Finds) -> None:
    """The guest is asked to let go of the device; when it does is its own matter."""
    domain = _domain(connection, guest_id)
    if domain is None or not domain.isActive():
        return
    found = finds(ElementTree.fromstring(domain.XMLDesc()))
    if found is None:
        return
    try:
        domain.detachDeviceFlags(ElementTree.tostring(found, encoding="unicode"), libvirt.VIR_DOMAIN_AFFECT_LIVE)
    except libvirt.libvirtError as error:
        if not any(text in error.get_error_message() for text in _UNPLUG_PENDING):
            raise


def forget(connection: Any, guest_id: str, finds: Finds) -> None:
    """The guest does not get the device at its next start."""
    domain = _domain(connection, guest_id)
    if domain is None:
        return
    found = finds(_kept(domain))
    if found is not None:
        domain.detachDeviceFlags(ElementTree.tostring(found, encoding="unicode"), libvirt.VIR_DOMAIN_AFFECT_CONFIG)
