"""Choosing packages, finding shared objects and kernel modules: on small made-up archives."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kilonova.base.faults import Fault
from kilonova.node.guest import elf, modules, packages, pool, root, tools
from kilonova.node.guest.build import build_guest, recipe_hash

INDEX = """Package: curl
Version: 1:7.88-1
Depends: libc6 (>= 2.34), libcurl4 (= 7.88-1), zlib1g (>= 1:1.1.4), debconf | cdebconf
SHA256: abc

Package: libcurl4
Version: 7.88-1
Pre-Depends: libidn2-0:any | libidn1
Description: a library
 Package: not a field
"""


def index(names: list[str]) -> list[packages.Package]:
    known = {package.name: package for package in packages.parse_index(INDEX)}
    return [known[name] for name in names if name in known]


def test_index_fields_and_first_alternatives() -> None:
    curl, libcurl = packages.parse_index(INDEX)
    assert (curl.label, curl.sha256) == ("curl=1:7.88-1", "abc")
    assert curl.depends == ("libc6", "libcurl4", "zlib1g", "debconf")
    assert libcurl.depends == ("libidn2-0",)


def test_closure_follows_libraries_only() -> None:
    asked: list[str] = []

    def watched(names: list[str]) -> list[packages.Package]:
        asked.extend(names)
        return index(names)

    assert set(packages.closure(["curl"], watched)) == {"curl", "libcurl4"}
    assert "debconf" not in asked and asked.count("libcurl4") == 1 and "zlib1g" in asked


def test_unknown_root_package_names_the_fix() -> None:
    with pytest.raises(Fault) as caught:
        packages.closure(["curl", "nonesuch"], index)
    assert "nonesuch" in caught.value.message and "apt-get update" in caught.value.hint


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("./sbin/blkid", "usr/bin/blkid"),
        ("./usr/sbin/dropbear", "usr/bin/dropbear"),
        ("./lib/x86_64-linux-gnu/libc.so.6", "usr/lib/x86_64-linux-gnu/libc.so.6"),
        ("./lib64/ld-linux-x86-64.so.2", "usr/lib64/ld-linux-x86-64.so.2"),
        ("./etc/mke2fs.conf", "etc/mke2fs.conf"),
    ],
)
def test_paths_land_in_the_merged_layout(path: str, place: str) -> None:
    assert pool.merged(path) == place


def test_pool_follows_relative_and_absolute_links() -> None:
    files = pool.Pool(
        {"usr/lib/x86_64-linux-gnu/libz.so.1.2": b"z"},
        {"usr/lib/x86_64-linux-gnu/libz.so.1": "libz.so.1.2", "usr/lib/libz.so": "/lib/x86_64-linux-gnu/libz.so.1"},
    )
    assert files.read("usr/lib/libz.so") == b"z"
    assert files.read("usr/lib/none") is None


def test_needed_libraries_of_this_python() -> None:
    needed = elf.needed(Path(sys.executable).resolve().read_bytes())
    assert "libc.so.6" in needed
    assert elf.needed(b"#!/bin/sh\n") == []


def test_missing_library_is_named() -> None:
    with pytest.raises(Fault) as caught:
        root.shared_objects([Path(sys.executable).resolve().read_bytes()], pool.Pool())
    assert ".so" in caught.value.message


def test_module_index_lists_dependencies_and_aliases() -> None:
    ring = modules.Module("kernel/virtio_ring.ko", b"", (), ())
    core = modules.Module("kernel/virtio.ko", b"", ("virtio_ring",), ())
    net = modules.Module("kernel/virtio-net.ko", b"", ("virtio",), ("virtio:d00000001v*",))
    files = modules.index_files([ring, core, net])
    assert files["modules.dep"].decode().splitlines() == [
        "kernel/virtio_ring.ko:",
        "kernel/virtio.ko: kernel/virtio_ring.ko",
        "kernel/virtio-net.ko: kernel/virtio.ko kernel/virtio_ring.ko",
    ]
    assert files["modules.alias"] == b"alias virtio:d00000001v* virtio_net\n"


def test_missing_tools_are_told_with_their_packages(tmp_path: Path) -> None:
    assert ("qemu-img", "qemu-utils") in tools.missing_tools(str(tmp_path))
    with pytest.raises(Fault) as caught:
        tools.require_tools(str(tmp_path))
    assert "apt-get install" in caught.value.hint and "e2fsprogs" in caught.value.hint


def test_too_small_a_disk_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Fault, match="at least"):
        build_guest(tmp_path, tmp_path, size_mb=20)


def test_recipe_changes_with_the_size() -> None:
    assert recipe_hash(96) == recipe_hash(96) != recipe_hash(128)
