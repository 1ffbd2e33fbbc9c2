"""`kilonova guest build`: the image file, and the kernel and initrd for clouds that boot those directly."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kilonova.base.faults import invalid, unavailable
from kilonova.node.guest import cpio, disk, packages, pool, root, tools
from kilonova.node.guest.modules import Modules
from kilonova.node.guest.tools import missing_tools

MIN_SIZE_MB = 88
PARTS = ("guest.qcow2", "vmlinuz", "initrd")
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class GuestImage:
    """A built guest. `disk` boots by itself; `kernel` + `initrd` + `command_line` need no boot loader."""

    disk: Path
    kernel: Path
    initrd: Path
    sha256: str
    command_line: str
    reused: bool


def build_guest(
    out_dir: Path, cache_dir: Path, *, size_mb: int = 96, told: Callable[[str], None] = lambda line: None
) -> GuestImage:
    """The guest image in `out_dir`; blocks for about 15 s when it must be built and under 1 s when nothing changed.

    `cache_dir` keeps the downloaded packages and finished builds; `told` gets one line per stage. No root is
    needed. Raises UNAVAILABLE (tools or packages missing, mirror silent) and INVALID (size too small).
    """
    if size_mb < MIN_SIZE_MB:
        raise invalid(f"The guest needs a disk of at least {MIN_SIZE_MB} MB.")
    out_dir.mkdir(parents=True, exist_ok=True)
    cache_dir.mkdir(parents=True, exist_ok=True)
    with _only_builder(cache_dir):
        recipe = recipe_hash(size_mb)
        built = _known_build(cache_dir, recipe, packages.lists_stamp())
        reused = built is not None
        if built is None:
            built, reused = _build(cache_dir, recipe, size_mb, told)
        return _hand_out(built, out_dir, reused)


def recipe_hash(size_mb: int) -> str:
    """A hash of this builder: its modules, the guest's own files, and the size. Changes when either changes."""
    digest = hashlib.sha256(str(size_mb).encode())
    here = Path(__file__).parent
    for path in sorted(here.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(f"{path.relative_to(here)} {path.stat().st_size}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


@contextmanager
def _only_builder(cache_dir: Path) -> Iterator[None]:
    with (cache_dir / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _known_build(cache_dir: Path, recipe: str, stamp: str) -> Path | None:
    """A finished build of this recipe that apt's lists have not outdated (no lists at all outdate nothing)."""
    record = cache_dir / f"latest-{recipe}.json"
    if not record.is_file():
        return None
    known = json.loads(record.read_text())
    built = cache_dir / "built" / str(known["build"])
    return built if (not stamp or known["lists"] == stamp) and (built / MANIFEST).is_file() else None


def _build(cache_dir: Path, recipe: str, size_mb: int, told: Callable[[str], None]) -> tuple[Path, bool]:
    """The folder of a finished build, and whether it was there already (new lists, same versions)."""
    tools.require_tools()
    stamp = packages.lists_stamp()
    kernel, chosen = packages.choose()
    labels = sorted(package.label for package in chosen.values())
    name = hashlib.sha256("\n".join([recipe, *labels]).encode()).hexdigest()[:16]
    built = cache_dir / "built" / name
    reused = (built / MANIFEST).is_file()
    told(f"{len(chosen)} packages chosen, {kernel.label}")
    if not reused:
        debs = packages.download(chosen.values(), cache_dir / "debs")
        told("packages in the cache")
        built.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="build-", dir=cache_dir) as temporary:
            work = Path(temporary)
            ready = _assemble(work, kernel.name.removeprefix("linux-image-"), debs, size_mb, told)
            (ready / MANIFEST).write_text(json.dumps(_manifest(ready, labels), indent=1))
            shutil.rmtree(built, ignore_errors=True)
            ready.rename(built)
    record = cache_dir / f"latest-{recipe}.json"
    record.write_text(json.dumps({"build": name, "lists": stamp}))
    _forget_older(cache_dir, keep=name)
    return built, reused


def _assemble(work: Path, release: str, debs: dict[str, Path], size_mb: int, told: Callable[[str], None]) -> Path:
    static = pool.open_debs([debs["busybox-static"]]).need("usr/bin/busybox")
    files = pool.open_debs(path for name, path in debs.items() if name != "busybox-static")
    files.files["busybox.static"] = static
    modules = Modules(files, release)
    told("packages opened")
    ready = work / "ready"
    ready.mkdir()
    (ready / "vmlinuz").write_bytes(files.need(f"boot/vmlinuz-{release}"))
    boot = cpio.archive(root.boot_tree(files, modules))
    (ready / "initrd").write_bytes(gzip.compress(boot, compresslevel=9, mtime=0))
    tree = root.root_tree(files, modules, _applets(work, files))
    told(f"root tree of {len(tree)} files made")
    image = disk.make_disk(work, tree, ready / "vmlinuz", ready / "initrd", size_mb)
    image.rename(ready / "guest.qcow2")
    told(f"disk image made, {(ready / 'guest.qcow2').stat().st_size // 1_000_000} MB")
    return ready


def _applets(work: Path, files: pool.Pool) -> dict[str, list[str]]:
    """The applet names of both busybox builds, by asking the static one and reading the shared one's table."""
    static = work / "busybox"
    static.write_bytes(files.need("busybox.static"))
    static.chmod(stat.S_IRWXU)
    names = tools.run(str(static), "--list").split()
    table = files.need("usr/bin/busybox")
    return {
        "busybox": [name for name in names if b"\0" + name.encode() + b"\0" in table],
        "busybox.static": names,
    }


def _manifest(ready: Path, labels: list[str]) -> dict[str, object]:
    sums = {name: hashlib.sha256((ready / name).read_bytes()).hexdigest() for name in PARTS}
    return {"sha256": sums, "command_line": disk.COMMAND_LINE, "packages": labels}


def _forget_older(cache_dir: Path, *, keep: str) -> None:
    """Drops all finished builds but the newest three, and the records that point at dropped ones."""
    builds = sorted((cache_dir / "built").iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in builds[3:]:
        if old.name != keep:
            shutil.rmtree(old, ignore_errors=True)


def _hand_out(built: Path, out_dir: Path, reused: bool) -> GuestImage:
    """Copies the build out, checking sums; a copy and not a link, for somebody may write into what they were given."""
    manifest = json.loads((built / MANIFEST).read_text())
    for name in PARTS:
        target, wanted = out_dir / name, manifest["sha256"][name]
        if target.is_file() and _sum(target) == wanted:
            continue
        fresh = out_dir / f".{name}.{os.getpid()}"
        shutil.copyfile(built / name, fresh)
        if _sum(fresh) != wanted:
            fresh.unlink()
            shutil.rmtree(built, ignore_errors=True)
            raise unavailable("The cached guest image was damaged and has been dropped.", hint="Build it again.")
        fresh.replace(target)
    return GuestImage(
        disk=out_dir / "guest.qcow2",
        kernel=out_dir / "vmlinuz",
        initrd=out_dir / "initrd",
        sha256=str(manifest["sha256"]["guest.qcow2"]),
        command_line=str(manifest["command_line"]),
        reused=reused,
    )


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


__all__ = ["GuestImage", "build_guest", "missing_tools"]
