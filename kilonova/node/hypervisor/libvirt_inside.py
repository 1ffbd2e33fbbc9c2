"""Calls to libvirt that reach into a guest, or count what it does: each takes a connection, blocks, may be repeated."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import libvirt
import libvirt_qemu

from kilonova.compute.contract import DiskUse, GuestUse, NicUse
from kilonova.node.hypervisor.domain_xml import Platform

AGENT_SECONDS = 5


def agent_answers(connection: Any, guest_id: str) -> bool:
    domain = connection.lookupByUUIDString(guest_id)
    try:
        libvirt_qemu.qemuAgentCommand(domain, '{"execute": "guest-ping"}', AGENT_SECONDS, 0)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            raise
        return False
    return True


def set_password(connection: Any, guest_id: str, user: str, password: str) -> None:
    connection.lookupByUUIDString(guest_id).setUserPassword(user, password, 0)


def set_time(connection: Any, guest_id: str, seconds: float) -> None:
    whole = int(seconds)
    told = {"seconds": whole, "nseconds": int((seconds - whole) * 1_000_000_000)}
    connection.lookupByUUIDString(guest_id).setTime(told)


def inject_nmi(connection: Any, guest_id: str) -> bool:
    """False when the guest is off."""
    domain = connection.lookupByUUIDString(guest_id)
    if not domain.isActive():
        return False
    domain.injectNMI(0)
    return True


def use(connection: Any, guest_id: str, platform: Platform) -> GuestUse | None:
    """None when the guest is off."""
    domain = connection.lookupByUUIDString(guest_id)
    if not domain.isActive():
        return None
    _, counted = connection.domainListGetStats([domain], 0)[0]
    macs = {
        nic.find("target").get("dev", ""): nic.find("mac").get("address", "")  # type: ignore[union-attr]
        for nic in ElementTree.fromstring(domain.XMLDesc()).iterfind("devices/interface")
        if nic.find("target") is not None and nic.find("mac") is not None
    }
    return GuestUse(
        "kvm" if platform.accelerator == "kvm" else "qemu",
        cpu_nanoseconds=tuple(_at(counted, f"vcpu.{n}.time") for n in range(_at(counted, "vcpu.current"))),
        memory_kib=_at(counted, "balloon.maximum"),
        memory_used_kib=_at(counted, "balloon.current"),
        disks=tuple(_disk(counted, f"block.{n}") for n in range(_at(counted, "block.count"))),
        nics=tuple(_nic(counted, f"net.{n}", macs) for n in range(_at(counted, "net.count"))),
    )


def _at(counted: dict[str, Any], key: str) -> int:
    return int(counted.get(key, 0))


def _disk(counted: dict[str, Any], at: str) -> DiskUse:
    return DiskUse(
        str(counted.get(f"{at}.name", "")),
        read_bytes=_at(counted, f"{at}.rd.bytes"),
        read_requests=_at(counted, f"{at}.rd.reqs"),
        write_bytes=_at(counted, f"{at}.wr.bytes"),
        write_requests=_at(counted, f"{at}.wr.reqs"),
        errors_count=int(counted.get(f"{at}.errors", -1)),
    )


def _nic(counted: dict[str, Any], at: str, macs: dict[str, str]) -> NicUse:
    """libvirt counts as the guest does when it made the tap itself; this tap is ours, and counts as the host does."""
    tap = str(counted.get(f"{at}.name", ""))
    return NicUse(
        macs.get(tap, ""),
        tap,
        rx_octets=_at(counted, f"{at}.rx.bytes"),
        rx_packets=_at(counted, f"{at}.rx.pkts"),
        rx_errors=_at(counted, f"{at}.rx.errs"),
        rx_drop=_at(counted, f"{at}.rx.drop"),
        tx_octets=_at(counted, f"{at}.tx.bytes"),
        tx_packets=_at(counted, f"{at}.tx.pkts"),
        tx_errors=_at(counted, f"{at}.tx.errs"),
        tx_drop=_at(counted, f"{at}.tx.drop"),
    )
