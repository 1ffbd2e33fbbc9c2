"""The guest's root filesystem as a tree: programs with their libraries, kernel modules, and our own files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kilonova.base.faults import unavailable
from kilonova.node.guest import elf
from kilonova.node.guest.modules import FIRST, LATER, OPTIONAL, THEN, Modules, index_files
from kilonova.node.guest.pool import Pool
from kilonova.node.guest.tree import Tree

FILES = Path(__file__).parent / "files"
LIBRARIES = "usr/lib/x86_64-linux-gnu"
LOADER = "ld-linux-x86-64.so.2"
USER = 1000
PROGRAMS = (
    "usr/bin/blkid",
    "usr/bin/curl",
    "usr/bin/dbclient",
    "usr/bin/dropbear",
    "usr/bin/dropbearkey",
    "usr/bin/e2fsck",
    "usr/bin/jq",
    "usr/bin/lsblk",
    "usr/bin/mke2fs",
    "usr/bin/mkfs.fat",
    "usr/bin/ping",
    "usr/bin/qemu-ga",
    "usr/bin/resize2fs",
    "usr/bin/socat",
)
SET_USER = ("usr/bin/ping", "usr/bin/sudo")
# sudo and PAM load these by name at run time, so no program lists them as needed.
PLUGINS = (f"{LIBRARIES}/security/pam_permit.so", f"{LIBRARIES}/security/pam_deny.so")
SUDO_FOLDERS = ("usr/libexec/sudo", "usr/lib/sudo")
SUDO_LIBRARIES = ("sudoers.so", "libsudo_util.so.0")
OTHER_NAMES = {
    "fsck.ext4": "e2fsck",
    "mkfs.ext2": "mke2fs",
    "mkfs.ext3": "mke2fs",
    "mkfs.ext4": "mke2fs",
    "mkfs.vfat": "mkfs.fat",
    "ping4": "ping",
    "ping6": "ping",
    "ssh": "dbclient",
}
EMPTY_FOLDERS = (
    "boot", "dev", "mnt", "proc", "run", "sys", "etc/dropbear", "etc/sudoers.d", "var/lib/cloud", "var/log",
    "var/spool/cron/crontabs",
)  # fmt: skip
MERGED_LINKS = {
    "bin": "usr/bin",
    "sbin": "usr/bin",
    "lib": "usr/lib",
    "lib64": "usr/lib64",
    "usr/sbin": "bin",
    "var/run": "../run",
    "init": "sbin/init",
    "etc/mtab": "../proc/self/mounts",
}


def root_tree(pool: Pool, modules: Modules, applets: dict[str, list[str]]) -> Tree:
    """The whole root filesystem. `applets` gives the applet names of `busybox` and of `busybox.static`."""
    tree = Tree()
    for path in EMPTY_FOLDERS:
        tree.folder(path)
    tree.folder("tmp", 0o1777)
    tree.folder("var/tmp", 0o1777)
    tree.folder("root", 0o700)
    tree.folder("home/cirros", 0o755, USER)
    for path, target in MERGED_LINKS.items():
        tree.link(path, target)
    _add_busybox(tree, pool, applets)
    _add_programs(tree, pool)
    add_own_files(tree, FILES / "root")
    _add_libraries(tree, pool)
    _add_modules(tree, modules)
    return tree


def _add_busybox(tree: Tree, pool: Pool, applets: dict[str, list[str]]) -> None:
    # /bin/sh is the shared build, whose shell looks programs up in PATH: the static one would run its own applets
    # in place of curl's, util-linux's and our own programs. The static build lends only what the shared one lacks; it
    # is set-uid for `su` and `passwd`, and drops the right by itself for every other applet.
    tree.file("usr/bin/busybox", pool.need("usr/bin/busybox"), 0o755)
    tree.file("usr/bin/busybox.static", pool.need("busybox.static"), 0o4755)
    for binary in ("busybox.static", "busybox"):
        for name in applets[binary]:
            if name not in ("busybox", "linuxrc"):
                tree.link(f"usr/bin/{name}", binary)


def _add_programs(tree: Tree, pool: Pool) -> None:
    for path in PROGRAMS:
        tree.file(path, pool.need(path), 0o755)
    tree.file("usr/bin/sudo", pool.need("usr/bin/sudo"), 0o755)
    for path in SET_USER:
        tree.file(path, tree[path].data, 0o4755)
    for name, target in OTHER_NAMES.items():
        tree.link(f"usr/bin/{name}", target)
    for path in PLUGINS:
        tree.file(path, pool.need(path))
    folder = next((one for one in SUDO_FOLDERS if pool.read(f"{one}/sudoers.so") is not None), SUDO_FOLDERS[0])
    for name in SUDO_LIBRARIES:
        tree.file(f"{folder}/{name}", pool.need(f"{folder}/{name}"))
    tree.file("etc/mke2fs.conf", pool.need("etc/mke2fs.conf"))


def add_own_files(tree: Tree, folder: Path) -> None:
    """Copies our files in; those that begin with `#!` become executable, whatever mode the checkout or wheel kept."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            name = str(path.relative_to(folder))
            mode = 0o755 if data.startswith(b"#!") else {"etc/shadow": 0o600, "etc/sudoers": 0o440}.get(name, 0o644)
            tree.file(name, data, mode)


def shared_objects(programs: Iterable[bytes], pool: Pool, near: Iterable[str] = ()) -> dict[str, bytes]:
    """Every library that these programs need, directly or not, by file name; `near` names those that are there already.

    Raises UNAVAILABLE naming a library that no package holds.
    """
    found: dict[str, bytes] = {}
    known = {LOADER, *near}
    todo = [name for data in programs for name in elf.needed(data)]
    while todo:
        name = todo.pop()
        if name in known or name in found:
            continue
        data = pool.read(f"{LIBRARIES}/{name}")
        if data is None:
            raise unavailable(
                f"No package of the guest holds the library {name}.",
                hint="The guest is built from Debian 12 packages; check that apt's lists are of one release.",
            )
        found[name] = data
        todo += elf.needed(data)
    return found


def _add_libraries(tree: Tree, pool: Pool) -> None:
    programs = [node.data for _path, node in tree if not node.is_folder and not node.is_link]
    for name, data in shared_objects(programs, pool, near=SUDO_LIBRARIES).items():
        tree.file(f"{LIBRARIES}/{name}", data)
    tree.file(f"usr/lib64/{LOADER}", pool.need(f"usr/lib64/{LOADER}"), 0o755)


def _add_modules(tree: Tree, modules: Modules) -> None:
    base = f"usr/lib/modules/{modules.release}"
    carried = modules.in_order((*FIRST, *THEN, *LATER, *OPTIONAL))
    for module in carried:
        tree.file(f"{base}/{module.path}", module.data)
    for name, data in index_files(carried).items():
        tree.file(f"{base}/{name}", data)


def boot_tree(pool: Pool, modules: Modules) -> Tree:
    """The first filesystem of the boot: a shell, the drivers of disks, and the script that finds the root."""
    tree = Tree()
    for path in ("dev", "proc", "sys", "mnt"):
        tree.folder(path)
    tree.file("bin/busybox", pool.need("busybox.static"), 0o755)
    add_own_files(tree, FILES / "boot")
    for stage, names in (("first", FIRST), ("then", THEN)):
        ordered = modules.in_order(names)
        for module in ordered:
            tree.file(f"modules/{module.name}.ko", module.data)
        tree.file(f"modules/{stage}", "".join(f"{module.name}\n" for module in ordered).encode())
    return tree
