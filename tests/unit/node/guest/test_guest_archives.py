"""The guest builder's own formats, read back by the tools that the kernel and firmware agree with."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from kilonova.node.guest import cpio, disk
from kilonova.node.guest.tree import Tree, spill


def sample() -> Tree:
    tree = Tree()
    tree.file("etc/shadow", b"secret\n", 0o600)
    tree.file("usr/bin/sudo", b"\x7fELF", 0o4755)
    tree.file("home/cirros/note", b"mine", owner=1000)
    tree.link("bin", "usr/bin")
    return tree


def test_folders_above_a_file_exist_and_come_first() -> None:
    paths = [path for path, _node in sample()]
    assert paths.index("etc") < paths.index("etc/shadow")
    assert paths.index("usr") < paths.index("usr/bin") < paths.index("usr/bin/sudo")


@pytest.mark.skipif(shutil.which("cpio") is None, reason="needs the cpio program")
def test_cpio_lists_modes_owners_and_links() -> None:
    listing = subprocess.run(
        ["cpio", "-itvn", "--quiet"], input=cpio.archive(sample()), capture_output=True, check=True
    ).stdout.decode()
    rows = {line.split()[8]: line.split() for line in listing.splitlines()}
    assert rows["etc/shadow"][0] == "-rw-------" and rows["etc/shadow"][2:4] == ["0", "0"]
    assert rows["usr/bin/sudo"][0] == "-rwsr-xr-x"
    assert rows["home/cirros/note"][2:4] == ["1000", "1000"]
    assert rows["bin"][-2:] == ["->", "usr/bin"]


def test_cpio_of_equal_trees_is_equal() -> None:
    assert cpio.archive(sample()) == cpio.archive(sample())


def test_spilled_files_keep_modes_and_contents(tmp_path: Path) -> None:
    spill(sample(), tmp_path)
    assert (tmp_path / "etc/shadow").stat().st_mode & 0o7777 == 0o600
    assert (tmp_path / "bin/sudo").stat().st_mode & 0o7777 == 0o4755
    assert (tmp_path / "home/cirros/note").read_bytes() == b"mine"


def test_partition_table_boots_the_fat_partition_and_ends_with_the_root() -> None:
    table = disk.partition_table(b"\x90" * 440, boot_sectors=34816, total_sectors=196608)
    assert len(table) == 512 and table[510:] == b"\x55\xaa"
    root, boot = (struct.unpack_from("<B3xB3xII", table, 446 + 16 * number) for number in (0, 1))
    assert boot == (0x80, 0x0E, 2048, 34816)
    assert root == (0x00, 0x83, 2048 + 34816, 196608 - 2048 - 34816)


def test_partition_table_without_room_for_a_root_is_refused() -> None:
    with pytest.raises(ValueError, match="boot partition"):
        disk.partition_table(b"", boot_sectors=4096, total_sectors=6000)


@pytest.mark.skipif(shutil.which("mke2fs", path="/usr/sbin:/sbin") is None, reason="needs e2fsprogs")
def test_ext4_holds_the_trees_owners_whoever_builds_it(tmp_path: Path) -> None:
    image = disk.make_root_partition(tmp_path, sample(), 40)
    stat = subprocess.run(
        ["/usr/sbin/debugfs", "-R", "stat /home/cirros/note", image], capture_output=True, check=True, text=True
    ).stdout
    assert "User:  1000   Group:  1000" in stat
    stat = subprocess.run(
        ["/usr/sbin/debugfs", "-R", "stat /usr/bin/sudo", image], capture_output=True, check=True, text=True
    ).stdout
    assert "User:     0" in stat and "Mode:  04755" in stat
