"""The libvirt XML of a guest, as a pure function of its spec."""

from __future__ import annotations

from typing import Final
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import msgspec

from kilonova.base.units import MIB
from kilonova.compute.contract import Disk, GuestSpec, NetworkDisk, Nic
from kilonova.node.hypervisor.placed_xml import (
    cpu_tune,
    guest_cells,
    host_devices,
    memory_backing,
    numa_tune,
    numbers,
)

NOVA_NAMESPACE: Final = "http://openstack.org/xmlns/libvirt/nova/1.1"
TRANSLATION_CACHE_MIB: Final = 32  # QEMU's own default of 1 GiB costs about 100 MB more memory per small guest

# What distributions built for x86-64-v2 need and QEMU emulates. An AMD-like model, so that guests do not pay for
# mitigations against flaws that an emulated CPU does not have.
_EMULATED_FEATURES: Final = ("ssse3", "sse4.1", "sse4.2", "popcnt", "cx16", "lahf_lm")

VNC_LISTENS = "127.0.0.1"  # in the host's own network namespace; others come through its agent


class Platform(msgspec.Struct, frozen=True):
    """What a host offers its guests."""

    accelerator: str = "tcg"  # tcg | kvm
    emulator: str = "/usr/bin/qemu-system-x86_64"
    machine: str = "pc"
    cpu_shares: bool = True  # whether the cpu cgroup is there


def domain_xml(spec: GuestSpec, platform: Platform) -> str:
    """The domain that runs `spec` on `platform`. The same input gives the same text; every value is escaped."""
    domain = Element("domain", type="kvm" if platform.accelerator == "kvm" else "qemu")
    _text(domain, "name", spec.name)
    _text(domain, "uuid", spec.id)
    _metadata(domain, spec)
    _text(domain, "memory", str(spec.memory_mb * MIB // 1024), unit="KiB")
    memory_backing(domain, spec)
    floating = {"cpuset": numbers(spec.shared_cpus)} if spec.shared_cpus else {}
    _text(domain, "vcpu", str(spec.vcpus), placement="static", **floating)
    cpu_tune(domain, spec, shares=platform.cpu_shares)
    numa_tune(domain, spec)
    _system(domain, spec)
    _machine(domain, platform)
    _cpu(domain, spec, platform)
    devices = SubElement(domain, "devices")
    _text(devices, "emulator", platform.emulator)
    if any(disk.bus == "scsi" for disk in spec.disks):
        SubElement(devices, "controller", type="scsi", model="virtio-scsi")
    for disk in spec.disks:
        _disk(devices, disk)
    for nic in spec.nics:
        _nic(devices, nic)
    host_devices(devices, spec)
    _consoles(devices, spec)
    _paravirtual(devices)
    indent(domain)
    return tostring(domain, encoding="unicode") + "\n"


def disk_xml(disk: Disk) -> str:
    """The element of one disk, as it is plugged into a guest that is there already."""
    devices = Element("devices")
    _disk(devices, disk)
    return tostring(devices[0], encoding="unicode")


def nic_xml(nic: Nic) -> str:
    """The element of one NIC."""
    devices = Element("devices")
    _nic(devices, nic)
    return tostring(devices[0], encoding="unicode")


def _metadata(domain: Element, spec: GuestSpec) -> None:
    """What an operator's `virsh dumpxml` and monitoring tools read: the server's name and flavor."""
    # The prefix is written out, as libvirt keeps metadata by namespace and tools look for `nova:`.
    instance = SubElement(SubElement(domain, "metadata"), "nova:instance", attrib={"xmlns:nova": NOVA_NAMESPACE})
    if spec.description:
        _text(instance, "nova:name", spec.description)
    flavor = SubElement(instance, "nova:flavor")
    _text(flavor, "nova:memory", str(spec.memory_mb))
    _text(flavor, "nova:vcpus", str(spec.vcpus))


def _system(domain: Element, spec: GuestSpec) -> None:
    """SMBIOS, by which cloud-init and others tell that they run on an OpenStack cloud."""
    system = SubElement(SubElement(domain, "sysinfo", type="smbios"), "system")
    for name, value in (
        ("manufacturer", "OpenStack Foundation"),
        ("product", "OpenStack Nova"),
        ("version", "kilonova"),
        ("serial", spec.id),
        ("uuid", spec.id),
        ("family", "Virtual Machine"),
    ):
        _text(system, "entry", value, name=name)


def _machine(domain: Element, platform: Platform) -> None:
    os = SubElement(domain, "os")
    _text(os, "type", "hvm", arch="x86_64", machine=platform.machine)
    SubElement(os, "smbios", mode="sysinfo")
    features = SubElement(domain, "features")
    SubElement(features, "acpi")
    SubElement(features, "apic")
    SubElement(features, "vmcoreinfo", state="on")
    if platform.accelerator == "tcg":
        _text(SubElement(features, "tcg"), "tb-cache", str(TRANSLATION_CACHE_MIB), unit="MiB")
    clock = SubElement(domain, "clock", offset="utc")
    SubElement(clock, "timer", name="pit", tickpolicy="delay")
    SubElement(clock, "timer", name="rtc", tickpolicy="catchup")
    SubElement(clock, "timer", name="hpet", present="no")
    for event, action in (("on_poweroff", "destroy"), ("on_reboot", "restart"), ("on_crash", "destroy")):
        _text(domain, event, action)


def _cpu(domain: Element, spec: GuestSpec, platform: Platform) -> None:
    if platform.accelerator == "kvm":
        cpu = SubElement(domain, "cpu", mode="host-model")
    else:
        cpu = SubElement(domain, "cpu", mode="custom", match="exact", check="none")
        _text(cpu, "model", "qemu64", fallback="allow")
        for feature in _EMULATED_FEATURES:
            SubElement(cpu, "feature", policy="require", name=feature)
    SubElement(cpu, "topology", sockets=str(spec.vcpus), cores="1", threads="1")
    guest_cells(cpu, spec.placed.cells)


def _disk(devices: Element, disk: Disk) -> None:
    element = SubElement(devices, "disk", type="network" if disk.network else "file", device=disk.device)
    driver = {"name": "qemu", "type": disk.format, "cache": disk.cache}
    if disk.device == "disk":
        driver["discard"] = "unmap"
    SubElement(element, "driver", driver)
    if disk.network:
        _network_source(element, disk.network)
    else:
        SubElement(element, "source", file=disk.path)
    SubElement(element, "target", dev=disk.target, bus=disk.bus)
    if disk.read_only:
        SubElement(element, "readonly")
    if disk.shareable:
        SubElement(element, "shareable")
    if disk.serial:
        _text(element, "serial", disk.serial)
    if disk.boot_order:
        SubElement(element, "boot", order=str(disk.boot_order))


def _network_source(element: Element, disk: NetworkDisk) -> None:
    """Where a RADOS block device is, and with whose key it is opened: libvirt keeps the key, the text names it."""
    source = SubElement(element, "source", protocol="rbd", name=disk.name)
    for host, port in disk.monitors:
        SubElement(source, "host", name=host, port=str(port))
    auth = SubElement(source, "auth", username=disk.user)
    SubElement(auth, "secret", type="ceph", uuid=disk.secret_uuid)


def _nic(devices: Element, nic: Nic) -> None:
    """A NIC on a tap that the L2 agent made and keeps: libvirt neither creates nor plugs nor removes it."""
    element = SubElement(devices, "interface", type="ethernet")
    SubElement(element, "mac", address=nic.mac)
    SubElement(element, "target", dev=nic.tap, managed="no")
    SubElement(element, "model", type=nic.model)
    SubElement(element, "mtu", size=str(nic.mtu))


def _consoles(devices: Element, spec: GuestSpec) -> None:
    """Serial console with its log, agent channel, and VNC where only console proxies reach it."""
    serial = SubElement(devices, "serial", type="pty")
    SubElement(serial, "log", file=spec.console_log, append="on")
    SubElement(serial, "target", port="0")
    channel = SubElement(devices, "channel", type="unix")
    SubElement(channel, "target", type="virtio", name="org.qemu.guest_agent.0")
    SubElement(devices, "input", type="tablet", bus="virtio")
    graphics = SubElement(devices, "graphics", type="vnc", port="-1", autoport="yes")
    SubElement(graphics, "listen", type="address", address=VNC_LISTENS)
    SubElement(SubElement(devices, "video"), "model", type="vga", vram="16384", heads="1")


def _paravirtual(devices: Element) -> None:
    SubElement(devices, "controller", type="usb", model="none")
    balloon = SubElement(devices, "memballoon", model="virtio", freePageReporting="on")
    SubElement(balloon, "stats", period="10")
    _text(SubElement(devices, "rng", model="virtio"), "backend", "/dev/urandom", model="random")
    SubElement(devices, "panic", model="isa")


def _text(parent: Element, tag: str, text: str, **attributes: str) -> None:
    # XML has no way to write a control character or half a surrogate pair, and libvirt refuses what is not XML.
    SubElement(parent, tag, attributes).text = "".join(c for c in text if _may_stand_in_xml(c))


def _may_stand_in_xml(c: str) -> bool:
    return c >= " " and not "\ud800" <= c <= "\udfff" and c not in "\ufffe\uffff"
