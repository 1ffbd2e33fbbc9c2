"""Calls to libvirt that copy a running guest's disk: blocking; a copy that was cut off is ended before the next."""

from __future__ import annotations

import contextlib
import threading
from typing import Any
from xml.etree import ElementTree

import libvirt

POLL_SECONDS = 0.1


def _target(domain: Any, source: str) -> str:
    """The name of the disk on that file."""
    for disk in ElementTree.fromstring(domain.XMLDesc()).iterfind("devices/disk"):
        place, name = disk.find("source"), disk.find("target")
        if place is not None and name is not None and place.get("file") == source:
            return name.get("dev", "")
    raise LookupError(source)


def copy(connection: Any, guest_id: str, source: str, target: str, freeze: str) -> bool:
    """False when the guest is off."""
    domain = connection.lookupByUUIDString(guest_id)
    if not domain.isActive():
        return False
    disk = _target(domain, source)
    if domain.blockJobInfo(disk):
        domain.blockJobAbort(disk)
    xml = f"<disk type='file'><source file='{target}'/><driver type='qcow2'/></disk>"
    flags = libvirt.VIR_DOMAIN_BLOCK_COPY_SHALLOW | libvirt.VIR_DOMAIN_BLOCK_COPY_REUSE_EXT
    domain.blockCopy(disk, xml, None, flags | libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB)
    try:
        while not _ready(domain, disk):
            threading.Event().wait(POLL_SECONDS)
        _end(domain, disk, freeze)
    except BaseException:  # edge: the guest's disk must not stay mirrored, whatever went wrong
        if domain.isActive() and domain.blockJobInfo(disk):
            domain.blockJobAbort(disk)
        raise
    return True


def _ready(domain: Any, disk: str) -> bool:
    for element in ElementTree.fromstring(domain.XMLDesc()).iterfind("devices/disk"):
        name, mirror = element.find("target"), element.find("mirror")
        if name is not None and name.get("dev") == disk:
            if mirror is None:
                raise libvirt.libvirtError("the copy of the disk ended before it was whole")
            return mirror.get("ready") == "yes"
    return False


def _end(domain: Any, disk: str, freeze: str) -> None:
    """The copy is what the disk is now; with file systems frozen for a moment when that can be."""
    frozen = _freeze(domain, freeze)
    try:
        domain.blockJobAbort(disk)
    finally:
        if frozen:
            domain.fsThaw()


def _freeze(domain: Any, freeze: str) -> bool:
    """Whether the guest's agent froze its file systems: never asked for "", must for "must"."""
    if not freeze:
        return False
    try:
        domain.fsFreeze()
    except libvirt.libvirtError:
        if freeze == "must":
            raise
        return False
    return True


def hold_still(connection: Any, guest_id: str, freeze: str) -> None:
    """File systems first, by the agent inside; then the vCPUs, with which the agent stands still too."""
    domain = connection.lookupByUUIDString(guest_id)
    if domain.isActive() and domain.state()[0] != libvirt.VIR_DOMAIN_PAUSED:
        _freeze(domain, freeze)
        domain.suspend()


def let_go_on(connection: Any, guest_id: str, freeze: str) -> None:
    """The other way round. Whether they were frozen is not known any more: thawing what is not is harmless."""
    domain = connection.lookupByUUIDString(guest_id)
    if not domain.isActive():
        return
    if domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED:
        domain.resume()
    if freeze:
        with contextlib.suppress(libvirt.libvirtError):
            domain.fsThaw()
