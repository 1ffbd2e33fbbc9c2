"""The bootable disk: partition table, boot partition, root filesystem, and the qcow2 file made of them."""

from __future__ import annotations

import struct
from pathlib import Path

from kilonova.base.faults import unavailable
from kilonova.base.units import MIB
from kilonova.node.guest import tools
from kilonova.node.guest.tree import Tree, spill

SECTOR_BYTES = 512
BOOT_START_SECTOR = 2048
ROOT_LABEL = "cirros-rootfs"
FIXED_TIME = 1_700_000_000
COMMAND_LINE = (
    f"root=LABEL={ROOT_LABEL} ro console=tty0 console=ttyS0,115200n8 loglevel=4 panic=10 net.ifnames=0 nomodeset "
    "mitigations=off no_timer_check random.trust_cpu=on audit=0 apparmor=0 selinux=0 edd=off"
)
SYSLINUX = (
    f"DEFAULT guest\nPROMPT 0\nTIMEOUT 0\nLABEL guest\n  KERNEL vmlinuz\n  INITRD initrd\n  APPEND {COMMAND_LINE}\n"
)


def partition_table(boot_code: bytes, boot_sectors: int, total_sectors: int) -> bytes:
    """The first sector of the disk.

    Entry 1 is the root (last on the disk, so that it can grow), entry 2 the active FAT boot partition in front of
    it. Raises ValueError when the root would have no room.
    """
    root_start = BOOT_START_SECTOR + boot_sectors
    if root_start >= total_sectors:
        raise ValueError("the boot partition fills the disk")

    def entry(active: int, kind: int, start: int, count: int) -> bytes:
        beyond_cylinders = b"\xfe\xff\xff"
        return struct.pack("<B3sB3sII", active, beyond_cylinders, kind, beyond_cylinders, start, count)

    return (
        boot_code[:440].ljust(440, b"\0")
        + struct.pack("<IH", 0x6B6E0001, 0)
        + entry(0x00, 0x83, root_start, total_sectors - root_start)
        + entry(0x80, 0x0E, BOOT_START_SECTOR, boot_sectors)
        + bytes(32)
        + b"\x55\xaa"
    )


def make_boot_partition(work: Path, kernel: Path, initrd: Path) -> Path:
    """A FAT image that holds syslinux, the kernel and the initrd; mtools and syslinux write into it without a mount."""
    size = (kernel.stat().st_size + initrd.stat().st_size) // MIB + 3
    image, config = work / "boot.fat", work / "syslinux.cfg"
    config.write_text(SYSLINUX)
    with image.open("wb") as file:
        file.truncate(size * MIB)
    hidden = str(BOOT_START_SECTOR)
    tools.run("mkfs.vfat", "--invariant", "-F", "16", "-s", "4", "-h", hidden, "-n", "BOOT", image)
    tools.run("mcopy", "-m", "-i", image, kernel, initrd, config, "::/")
    tools.run("syslinux", "--install", image)
    return image


def owner_commands(tree: Tree) -> str:
    """debugfs commands that give every node of the tree its owner and group, whoever copied the files."""
    lines = []
    for path, node in tree:
        lines.append(f"set_inode_field /{path} uid {node.owner}")
        lines.append(f"set_inode_field /{path} gid {node.group}")
    return "\n".join(lines) + "\n"


def make_root_partition(work: Path, tree: Tree, size_mb: int) -> Path:
    """An ext4 image of the tree, checked by e2fsck.

    It keeps its journal (a guest killed while growing survives that) and reserves room to grow to 1 TiB while mounted.
    Raises UNAVAILABLE when the tree does not fit.
    """
    folder, image, commands = work / "root", work / "root.ext4", work / "owners"
    folder.mkdir()
    spill(tree, folder)
    features = "^metadata_csum,^64bit,resize_inode"
    grow = "resize=268435456,root_owner=0:0,hash_seed=6b696c6f-6e6f-7661-0000-000000000001,lazy_itable_init=0"
    tools.run(
        *("mke2fs", "-q", "-t", "ext4", "-b", "4096", "-L", ROOT_LABEL, "-U", "6b696c6f-6e6f-7661-0000-000000000002"),
        *("-J", "size=4", "-O", features, "-E", grow, "-m", "0", "-N", "8192", "-d"),
        *(folder, image, f"{size_mb}M"),
        environment={"E2FSPROGS_FAKE_TIME": str(FIXED_TIME)},
    )
    commands.write_text(owner_commands(tree))
    told = tools.run("debugfs", "-w", "-f", commands, image)
    if "not found" in told:
        raise unavailable("The guest's file owners could not be set.", inside=told[-2000:])
    tools.run("e2fsck", "-f", "-n", image)
    return image


def _copy_data(source: Path, disk: Path, offset: int) -> None:
    """Writes `source` into `disk` at `offset`, leaving holes where it is all zeros."""
    with source.open("rb") as reader, disk.open("r+b") as writer:
        writer.seek(offset)
        while block := reader.read(65536):
            if block.count(0) == len(block):
                writer.seek(len(block), 1)
            else:
                writer.write(block)


def make_disk(work: Path, tree: Tree, kernel: Path, initrd: Path, size_mb: int) -> Path:
    """The compressed qcow2 disk of `size_mb` MiB."""
    boot = make_boot_partition(work, kernel, initrd)
    boot_sectors = boot.stat().st_size // SECTOR_BYTES
    root_start = (BOOT_START_SECTOR + boot_sectors) * SECTOR_BYTES
    root = make_root_partition(work, tree, size_mb - root_start // MIB)
    raw, disk = work / "disk.raw", work / "guest.qcow2"
    total_sectors = size_mb * MIB // SECTOR_BYTES
    with raw.open("wb") as file:
        file.write(partition_table(tools.BOOT_CODE.read_bytes(), boot_sectors, total_sectors))
        file.truncate(size_mb * MIB)
    _copy_data(boot, raw, BOOT_START_SECTOR * SECTOR_BYTES)
    _copy_data(root, raw, root_start)
    tools.run("qemu-img", "convert", "-c", "-O", "qcow2", "-o", "compat=1.1,compression_type=zstd", raw, disk)
    return disk
