"""Kernel modules: which the guest carries, in which order they load, and the index files that modprobe reads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from kilonova.base.faults import unavailable
from kilonova.node.guest.elf import module_info
from kilonova.node.guest.pool import Pool, unpacked

FIRST = ("virtio_pci", "virtio_blk")
THEN = ("virtio_scsi", "sd_mod", "ata_piix", "ahci")
LATER = (
    "virtio_net",
    "virtio_console",
    "virtio_rng",
    "virtio_balloon",
    "sr_mod",
    "button",
    "evdev",
    "isofs",
    "vfat",
    "nls_cp437",
    "nls_ascii",
    "nls_iso8859_1",
    "nls_utf8",
)
# Nice to have: kernels that build them in, or leave them out, still make a good guest.
OPTIONAL = ("8021q", "qemu_fw_cfg", "virtio_mem", "nvme", "e1000", "i6300esb", "vmw_vsock_virtio_transport")


def module_name(path: str) -> str:
    """The name the kernel knows a module by: `…/virtio-rng.ko.xz` → `virtio_rng`."""
    return PurePosixPath(path).name.partition(".")[0].replace("-", "_")


@dataclass(frozen=True)
class Module:
    """One module: its path below the release's folder, its content, what it depends on, and its device aliases."""

    path: str
    data: bytes
    depends: tuple[str, ...]
    aliases: tuple[str, ...]

    @property
    def name(self) -> str:
        """The module's name with underscores."""
        return module_name(self.path)


class Modules:
    """All modules of one kernel release, by name."""

    def __init__(self, pool: Pool, release: str) -> None:
        self.release = release
        base = f"usr/lib/modules/{release}/"
        self._base = base
        self._pool = pool
        self._paths = {module_name(path): path for path in pool.files if path.startswith(base) and ".ko" in path}

    def __contains__(self, name: str) -> bool:
        return name in self._paths

    def load(self, name: str) -> Module:
        """The module called `name`. Raises UNAVAILABLE when this kernel has none."""
        if name not in self._paths:
            raise unavailable(f"Kernel {self.release} has no module {name}.")
        path = self._paths[name]
        plain, data = unpacked(path, self._pool.files[path])
        info = module_info(data)
        depends = tuple(one for one in ",".join(info.get("depends", [])).replace("-", "_").split(",") if one)
        return Module(plain.removeprefix(self._base), data, depends, tuple(info.get("alias", ())))

    def in_order(self, names: Iterable[str]) -> list[Module]:
        """These modules and all they depend on, dependencies first; names built into the kernel are skipped."""
        ordered: dict[str, Module] = {}

        def visit(name: str) -> None:
            if name in ordered or name not in self._paths:
                return
            module = self.load(name)
            for below in module.depends:
                visit(below)
            ordered[name] = module

        for name in names:
            visit(name)
        return list(ordered.values())


def index_files(modules: list[Module]) -> dict[str, bytes]:
    """`modules.dep`, `modules.alias` and the empty files that modprobe wants beside them, by name."""
    by_name = {module.name: module for module in modules}

    def below(module: Module) -> list[Module]:
        found: dict[str, Module] = {}
        for name in module.depends:
            if name in by_name:
                found[name] = by_name[name]
                found |= {one.name: one for one in below(by_name[name])}
        return list(found.values())

    dep = "".join(f"{one.path}: {' '.join(lower.path for lower in below(one))}".rstrip() + "\n" for one in modules)
    alias = "".join(f"alias {pattern} {one.name}\n" for one in modules for pattern in one.aliases)
    return {
        "modules.dep": dep.encode(),
        "modules.alias": alias.encode(),
        "modules.symbols": b"",
        "modules.builtin": b"",
    }
