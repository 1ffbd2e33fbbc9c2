"""The definitions that every cloud has from its first start: the properties that compute understands.

They are rows like any other afterwards: an operator may change them or drop them, and they do not come back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.image.metadef import store
from kilonova.image.metadef.known import FLAVOR, IMAGE, RESOURCE_TYPES, VOLUME, YES_NO, Known
from kilonova.image.metadef.store import Association, Contents, Item, Namespace
from kilonova.image.metadef.well_known_hosts import HOSTS
from kilonova.image.metadef.well_known_software import SOFTWARE

if TYPE_CHECKING:
    from datetime import datetime

    from kilonova.image.core import ImageService

WELL_KNOWN = (
    Known(
        "OS::Glance::CommonImageProperties",
        "Common Image Properties",
        "Properties that tell what an image holds.",
        ((IMAGE, ""),),
        (
            ("kernel_id", "Kernel ID", "Image of the kernel to boot an AMI-style image with.", "string"),
            ("ramdisk_id", "Ramdisk ID", "Image of the ramdisk to boot an AMI-style image with.", "string"),
            ("instance_uuid", "Instance ID", "Server that the image was made from.", "string"),
            ("architecture", "CPU Architecture", "Processor architecture that the image needs.", "string"),
            ("os_distro", "OS Distro", "Common name of the operating system's distribution, in lower case.", "string"),
            ("os_version", "OS Version", "Version of the distribution.", "string"),
        ),
    ),
    Known(
        "OS::OperatingSystem",
        "Common Operating System Properties",
        "What runs in a guest of this image.",
        ((IMAGE, ""), (VOLUME, "")),
        (
            ("os_type", "OS Type", "Family of the operating system.", ("linux", "windows")),
            ("os_distro", "OS Distro", "Common name of the operating system's distribution, in lower case.", "string"),
            ("os_version", "OS Version", "Version of the distribution.", "string"),
            ("os_admin_user", "OS Admin User", "Name of the user that may administer the guest.", "string"),
            ("os_require_quiesce", "Require Quiesce", "Snapshots need the guest agent to freeze.", ("yes", "no")),
        ),
    ),
    Known(
        "OS::Compute::Libvirt",
        "libvirt Driver Options",
        "Devices and boot options of guests on libvirt.",
        ((IMAGE, "hw_"), (FLAVOR, "hw:")),
        (
            ("boot_menu", "Boot Menu", "Show the firmware's boot menu.", YES_NO),
            ("serial_port_count", "Serial Port Count", "How many serial ports the guest has.", "integer"),
            ("mem_page_size", "Memory Page Size", "small, large, any, or a size in KiB.", "string"),
            ("cpu_policy", "CPU Policy", "Whether virtual processors are pinned.", ("shared", "dedicated", "mixed")),
            ("mem_encryption", "Hardware Memory Encryption", "The host encrypts the guest's memory.", YES_NO),
            ("mem_encryption_model", "Hardware Memory Encryption Model", "How it does.",
             ("amd-sev", "amd-sev-es", "amd-sev-snp")),
            ("virtio_packed_ring", "VirtIO Packed Ring", "Devices use packed rings.", YES_NO),
        ),
    ),
    Known(
        "OS::Compute::LibvirtImage",
        "libvirt Driver Options for Images",
        "Devices that guests of this image get on libvirt.",
        ((IMAGE, ""),),
        (
            (
                "hw_disk_bus", "Disk Bus", "Controller of disks.",
                ("virtio", "scsi", "sata", "ide", "usb", "fdc", "xen", "uml"),
            ),
            ("hw_cdrom_bus", "CD-ROM Bus", "Controller of CD drives.", ("sata", "ide", "scsi", "virtio", "usb")),
            ("hw_scsi_model", "SCSI Model", "Model of the SCSI controller, such as virtio-scsi.", "string"),
            (
                "hw_vif_model", "Virtual Network Interface", "Model of network cards.",
                ("virtio", "e1000", "e1000e", "rtl8139", "ne2k_pci", "pcnet", "vmxnet3", "netfront"),
            ),
            ("hw_video_model", "Video Model", "Model of the display.",
             ("virtio", "vga", "cirrus", "qxl", "vmvga", "xen", "bochs", "gop", "none")),
            ("hw_machine_type", "Machine Type", "Machine that is emulated, such as q35 or pc.", "string"),
            ("hw_firmware_type", "Firmware Type", "How the guest starts.", ("bios", "uefi")),
            ("hw_qemu_guest_agent", "QEMU Guest Agent", "The image has the guest agent.", ("yes", "no")),
            ("hw_rng_model", "Random Number Generator Device", "Model of the entropy device.", "string"),
            ("hw_rescue_bus", "Rescue Bus", "Controller of the rescue disk.", ("virtio", "scsi", "sata", "ide", "usb")),
            ("hw_rescue_device", "Rescue Device", "Kind of the rescue disk.", ("disk", "cdrom", "floppy")),
            ("os_command_line", "Kernel Command Line", "Arguments of the kernel of an AMI-style image.", "string"),
        ),
    ),
    Known(
        "OS::Compute::Hypervisor",
        "Hypervisor Selection",
        "Hosts that can run the image.",
        ((IMAGE, ""),),
        (
            ("img_hv_type", "Hypervisor Type", "Kind of hypervisor.",
             ("kvm", "qemu", "lxc", "xen", "vmware", "hyperv", "uml", "ironic", "vz")),
            ("vm_mode", "VM Mode", "How the guest is virtualised.", ("hvm", "xen", "uml", "exe")),
        ),
    ),
    Known(
        "OS::Compute::VirtCPUTopology",
        "Virtual CPU Topology",
        "How virtual processors are laid out as sockets, cores and threads.",
        ((IMAGE, "hw_"), (FLAVOR, "hw:")),
        tuple(
            (f"cpu_{limit}{unit}", f"{title} {unit.title()}", f"{words} of {unit} per guest.", "integer")
            for limit, title, words in (("", "vCPU", "Preferred number"), ("max_", "Max vCPU", "Largest number"))
            for unit in ("sockets", "cores", "threads")
        ),
    ),
    Known(
        "OS::Compute::Watchdog",
        "Watchdog Behavior",
        "What the host does when a guest's watchdog is not fed.",
        ((IMAGE, "hw_"), (FLAVOR, "hw:")),
        (("watchdog_action", "Watchdog Action", "What to do when the guest hangs.",
          ("disabled", "reset", "poweroff", "pause", "none")),),
    ),
    Known(
        "OS::Compute::Quota",
        "Flavor Quota",
        "Shares of the host's processors, disks and network that guests of a flavor get.",
        ((FLAVOR, ""),),
        (),
        (
            ("CPU Limits", "How much of the host's processors.", (
                ("quota:cpu_shares", "Quota: CPU Shares", "Weight relative to other guests.", "integer"),
                ("quota:cpu_period", "Quota: CPU Period", "Microseconds over which the quota counts.", "integer"),
                ("quota:cpu_quota", "Quota: CPU Quota", "Microseconds of processor time per period.", "integer"),
            )),
            ("Disk QoS", "How fast disks are.", tuple(
                (f"quota:disk_{way}_{unit}_sec", f"Quota: Disk {way.title()} {unit.title()} / sec",
                 f"Most {unit} per second, {way}.", "integer")
                for way in ("read", "write", "total") for unit in ("bytes", "iops")
            )),
            ("Virtual Interface QoS", "How fast network cards are, in kilobytes.", tuple(
                (f"quota:vif_{way}_{what}", f"Quota: VIF {way.title()} {what.title()}",
                 f"{what.title()} of {way} traffic.", "integer")
                for way in ("inbound", "outbound") for what in ("average", "burst", "peak")
            )),
        ),
    ),
    Known(
        "OS::Compute::RandomNumberGenerator",
        "Random Number Generator",
        "Entropy that guests of a flavor may draw from their host.",
        ((FLAVOR, ""),),
        (
            ("hw_rng:allowed", "Random Number Generator Allowed", "Guests have the entropy device.", "boolean"),
            ("hw_rng:rate_bytes", "Random number generator limits", "Bytes per period.", "integer"),
            ("hw_rng:rate_period", "Random number generator read period", "Milliseconds of a period.", "integer"),
        ),
    ),
    Known(
        "OS::Glance::Signatures",
        "Image Signature Verification",
        "A signature over the image's data, and where its certificate is.",
        ((IMAGE, ""),),
        (
            ("img_signature", "Image Signature", "The signature, in base64.", "string"),
            ("img_signature_certificate_uuid", "Image Signature Certificate UUID", "Key manager's id of the "
             "certificate.", "string"),
            ("img_signature_hash_method", "Image Signature Hash Method", "Hash that was signed.",
             ("SHA-224", "SHA-256", "SHA-384", "SHA-512")),
            ("img_signature_key_type", "Image Signature Key Type", "Kind of key and padding.",
             ("RSA-PSS", "DSA", "ECC_SECP384R1", "ECC_SECP521R1")),
        ),
    ),
    *HOSTS,
    *SOFTWARE,
)  # fmt: skip


def register(connection: Connection, ids: list[str], now: datetime) -> int:
    """The well-known definitions are there, once: nothing is made when this cloud ever had a resource type."""
    if store.list_resource_types(connection):
        return 0
    for name in RESOURCE_TYPES:
        store.insert_resource_type(connection, name, now)
    for id_, known in zip(ids, WELL_KNOWN, strict=True):
        namespace = Namespace(id_, known.name, "public", now, now, known.title, known.description, True, "admin")
        contents = Contents(
            objects=[Item(name, now, now, {"description": text, "required": [], "properties": _all(members)})
                     for name, text, members in known.objects],
            properties=[Item(name, now, now, body) for name, body in _all(known.properties).items()],
            associations=[Association(type_, now, now, prefix or None) for type_, prefix in known.types],
        )  # fmt: skip
        store.insert_namespace(connection, namespace, contents)
    return len(WELL_KNOWN)


def _all(properties: tuple[tuple[str, str, str, str | tuple[str, ...]], ...]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, title, description, kind in properties:
        choices = {} if isinstance(kind, str) else {"enum": list(kind)}
        type_ = kind if isinstance(kind, str) else "string"
        made[name] = {"title": title, "description": description, "type": type_, **choices}
    return made


async def register_well_known(service: ImageService) -> int:
    """Register them in this cloud; how many there were to register."""
    if await service.db.read(store.list_resource_types):
        return 0
    ids = [service.world.ids.uuid() for _ in WELL_KNOWN]
    try:
        return await service.db.write(register, ids, service.world.clock.now())
    except sa.exc.IntegrityError:  # another process registers them at this moment
        return 0
