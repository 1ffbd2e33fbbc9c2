"""Format inspection against files that qemu-img makes, and against headers that lie."""

from __future__ import annotations

import asyncio
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from kilonova.image.contract import Found
from kilonova.image.inspect.ends import Collector, refusal
from kilonova.node.images.inspector import InlineInspector

MIB = 1 << 20
needs_qemu_img = pytest.mark.skipif(not shutil.which("qemu-img"), reason="needs qemu-img (Debian: qemu-utils)")


def inspect(data: bytes, piece: int = 4096) -> Found:
    collector = Collector()
    for at in range(0, len(data), piece):
        collector.feed(data[at : at + piece])
    return asyncio.run(InlineInspector().judge(collector.ends()))


def made(tmp_path: Path, format_: str, *options: str) -> bytes:
    path = tmp_path / "disk"
    subprocess.run(["qemu-img", "create", "-q", "-f", format_, *options, str(path), "8M"], check=True)
    return path.read_bytes()


@needs_qemu_img
@pytest.mark.parametrize(
    ("format_", "options", "expected"),
    [
        ("qcow2", (), "qcow2"),
        ("qcow2", ("-o", "compat=0.10"), "qcow2"),
        ("raw", (), "raw"),
        ("vdi", (), "vdi"),
        ("vpc", (), "vhd"),
        ("vpc", ("-o", "subformat=fixed"), "vhd"),
        ("vhdx", (), "vhdx"),
        ("vmdk", (), "vmdk"),
        ("vmdk", ("-o", "subformat=streamOptimized"), "vmdk"),
    ],
)
def test_real_files_are_known_and_safe(tmp_path: Path, format_: str, options: tuple[str, ...], expected: str) -> None:
    found = inspect(made(tmp_path, format_, *options))
    assert (found.format, found.unsafe) == (expected, "")
    assert found.virtual_size_bytes is not None
    assert abs(found.virtual_size_bytes - 8 * MIB) < MIB  # VHD rounds to a geometry
    assert refusal(expected, found) == ""


@needs_qemu_img
def test_a_backing_file_is_refused(tmp_path: Path) -> None:
    found = inspect(made(tmp_path, "qcow2", "-u", "-b", "/etc/shadow", "-F", "raw"))
    assert "backing file" in refusal("qcow2", found)


@needs_qemu_img
def test_an_external_data_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "q"
    outside = tmp_path / "outside.raw"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-o", f"data_file={outside},data_file_raw=on", str(path), "1M"],
        check=True,
    )
    assert "data file" in refusal("qcow2", inspect(path.read_bytes()))


@needs_qemu_img
def test_a_flat_vmdk_and_its_bare_descriptor_are_refused(tmp_path: Path) -> None:
    descriptor = made(tmp_path, "vmdk", "-o", "subformat=monolithicFlat")
    assert "extents" in refusal("vmdk", inspect(descriptor))
    sparse = made(tmp_path, "vmdk").replace(b'createType="monolithicSparse"', b'createType="monolithicFlat"\n ')
    assert refusal("vmdk", inspect(sparse))


def test_vmdk_extents_that_name_a_host_file_are_refused() -> None:
    text = b'# Disk DescriptorFile\ncreateType="monolithicSparse"\nRW 2048 FLAT "/etc/passwd" 0\n'
    header = b"KDMV" + struct.pack("<IIQQQQ", 1, 3, 2048, 128, 1, 20) + b"\0" * 468
    found = inspect((header[:512] + text).ljust(512 * 30, b"\0"))
    assert "outside" in found.unsafe


@pytest.mark.parametrize("declared", ["raw", "vmdk", "iso", "vhd"])
@needs_qemu_img
def test_a_qcow2_that_says_it_is_something_else_is_refused(tmp_path: Path, declared: str) -> None:
    assert "is qcow2, not" in refusal(declared, inspect(made(tmp_path, "qcow2")))


def test_an_absurd_virtual_size_is_refused() -> None:
    header = b"QFI\xfb" + struct.pack(">IQIIQ", 3, 0, 0, 16, 1 << 62) + b"\0" * 72
    assert "absurd" in inspect(header).unsafe


def test_unknown_incompatible_features_are_refused() -> None:
    header = bytearray(b"QFI\xfb" + struct.pack(">IQIIQ", 3, 0, 0, 16, MIB) + b"\0" * 80)
    header[72:80] = struct.pack(">Q", 1 << 40)
    assert "features" in inspect(bytes(header)).unsafe


def test_one_byte_at_a_time_finds_the_same() -> None:
    data = b"QFI\xfb" + struct.pack(">IQIIQ", 3, 0, 0, 16, MIB) + b"\0" * 200
    assert inspect(data, 1) == inspect(data, len(data))


def test_nothing_and_noise_are_raw() -> None:
    assert inspect(b"").format == "raw"
    assert inspect(bytes(range(256)) * 40).format == "raw"
