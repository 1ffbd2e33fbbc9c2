"""Programs that read what users uploaded run here: no privilege, no network, bounded memory, time and output."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from kilonova.base.faults import Fault, Kind, invalid, no_capacity, unavailable
from kilonova.base.units import GIB

_NOBODY: Final = 65534
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Limits(msgspec.Struct, frozen=True):
    """How much a child may use."""

    memory_bytes: int = 2 * GIB  # of address space
    cpu_seconds: int = 600
    wall_seconds: float = 900
    file_bytes: int = 0  # largest file it may write; 0 writes none


def run_confined(
    command: Sequence[str],
    limits: Limits | None = None,
    *,
    outputs: Sequence[str] = (),
    output_bytes: int = 0,
    changes: Sequence[str] = (),
    user: tuple[int, int] = (_NOBODY, _NOBODY),
) -> bytes:
    """What the command printed. Blocks; call it off the event loop.

    As root the child is `nobody` with no capability in an empty network namespace, so its inputs must be readable
    and reachable for all, and it can write only the files in `outputs`: made here as holes of `output_bytes`, root's
    afterwards, removed by a failure; and those in `changes`, which exist and keep their owner. `user` (uid, gid) is
    another than nobody: QEMU's, for guests' own disks. Faults: UNAVAILABLE (missing program, time passed),
    NO_CAPACITY (disk full), INVALID (the program refused its input).
    """
    limits = limits or Limits()
    program = shutil.which(command[0], path=_PATH)
    if program is None:
        raise unavailable(f"This host has no {command[0]}.", hint=f"Install the package that has {command[0]}.")
    is_root = os.geteuid() == 0
    for output in outputs:
        with open(output, "wb") as made:
            made.truncate(output_bytes)
            if is_root:
                os.chown(output, *user)
    owners = [(path, os.stat(path)) for path in changes] if is_root else []
    try:
        for path, _ in owners:
            os.chown(path, *user)
        printed = _run([*_fence(limits, is_root, user), program, *command[1:]], limits)
    except BaseException:
        for output in outputs:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(output)
        raise
    finally:
        for path, was in owners:
            os.chown(path, was.st_uid, was.st_gid)
    if is_root:
        for output in outputs:
            os.chown(output, 0, 0)
    return printed


def _fence(limits: Limits, is_root: bool, user: tuple[int, int]) -> list[str]:
    fence = []
    if is_root:
        fence = ["unshare", "--net", "--ipc", "--", "setpriv", f"--reuid={user[0]}", f"--regid={user[1]}"]
        fence += ["--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--"]
    return [
        *fence, "prlimit", f"--as={limits.memory_bytes}", f"--cpu={limits.cpu_seconds}",
        f"--fsize={limits.file_bytes}", "--core=0", "--nproc=256", "--",
    ]  # fmt: skip


def _run(command: list[str], limits: Limits) -> bytes:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd="/",
            env={"PATH": _PATH, "LANG": "C.UTF-8"},
            start_new_session=True,
            timeout=limits.wall_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Fault(
            Kind.UNAVAILABLE,
            "Working on the image took too long and was stopped.",
            hint="Try again when the host is less busy, or upload the image as raw or qcow2.",
            inside=f"{command}: more than {limits.wall_seconds} s",
        ) from error
    if done.returncode:
        said = done.stderr.decode(errors="replace")[-2000:]
        inside = f"{' '.join(command)}: {done.returncode}: {said}"
        if "No space left" in said:
            raise no_capacity("The host's disk is full.", inside=inside)
        if "Permission denied" in said:
            raise unavailable(
                "An unprivileged program on the host cannot reach a file.",
                hint="Every directory above the state directory needs search permission for all (chmod o+x).",
                inside=inside,
            )
        raise invalid("The image or disk could not be read.", hint="Is the file complete?", inside=inside)
    return done.stdout


class DiskFacts(msgspec.Struct, frozen=True):
    """What a disk file is."""

    format: str
    virtual_size_bytes: int


# Formats that QEMU reads and whose files need nothing beside them.
READABLE: Final = ("raw", "qcow2", "vmdk", "vdi", "vpc", "vhdx", "qed")


def inspect_disk(path: str) -> DiskFacts:
    """Format and virtual size of a file that a user uploaded. INVALID when it leans on others."""
    told: dict[str, Any] = json.loads(
        run_confined(["qemu-img", "info", "--output=json", "-U", path], Limits(cpu_seconds=30, wall_seconds=60))
    )
    facts = DiskFacts(told["format"], int(told["virtual-size"]))
    if facts.format not in READABLE:
        raise invalid(f"Images of format {facts.format} are not taken.", hint=f"Use one of {', '.join(READABLE)}.")
    details = told.get("format-specific", {}).get("data", {})
    extents = [Path(str(extent.get("filename", path))) for extent in details.get("extents", ())]
    if told.get("backing-filename") or "data-file" in details or any(extent != Path(path) for extent in extents):
        raise invalid("The image refers to other files.", hint="Flatten it: qemu-img convert IN OUT.")
    if told.get("encrypted") or "encrypt" in details:
        raise invalid("The image is encrypted.", hint="Decrypt it before uploading.")
    return facts


def convert_disk(source: str, source_format: str, target: str, target_format: str, virtual_size_bytes: int) -> None:
    """Copy a disk into `target` in another format; zeros stay holes. A failure leaves no target."""
    command = ["qemu-img", "convert", "-f", source_format, "-O", target_format, source, target]
    run_confined(command, Limits(file_bytes=virtual_size_bytes + GIB), outputs=[target])


def make_overlay(base: str, base_format: str, target: str, size_bytes: int) -> None:
    """A qcow2 of `size_bytes` that shows `base` until it is written; the backing format is always explicit."""
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", base_format, target, str(size_bytes)]
    run_confined(command, Limits(file_bytes=GIB), outputs=[target])


def backing_file(path: str | Path) -> str:
    """What a qcow2 of ours leans on, "" for any other file. Read from its header: no program opens the disk."""
    try:
        with open(path, "rb") as file:
            header = file.read(20)
            if header[:4] != b"QFI\xfb" or not (at := int.from_bytes(header[8:16], "big")):
                return ""
            file.seek(at)
            return file.read(int.from_bytes(header[16:20], "big")).decode(errors="replace")
    except OSError:
        return ""


def grow_overlay(path: str, size_bytes: int) -> None:
    """A qcow2 that is smaller gets this size; a larger one stays as it is: what a guest wrote is never cut off."""
    with open(path, "rb") as file:
        header = file.read(32)
    if header[:4] != b"QFI\xfb":
        raise invalid("The server's disk is no qcow2 file.", inside=path)
    if int.from_bytes(header[24:32], "big") < size_bytes:
        limits = Limits(file_bytes=size_bytes + GIB)
        run_confined(["qemu-img", "resize", "-q", "-f", "qcow2", path, str(size_bytes)], limits, changes=[path])


def flatten_disk(source: str, target: str, virtual_size_bytes: int, owner: tuple[int, int]) -> None:
    """Copy a guest's qcow2 with all that it leans on into one qcow2, as the user whose file it is.

    A guest that broke out of its QEMU may have written the qcow2's header: it reads nothing that QEMU could not.
    """
    command = ["qemu-img", "convert", "-f", "qcow2", "-O", "qcow2", source, target]
    run_confined(command, Limits(file_bytes=virtual_size_bytes + GIB), outputs=[target], user=owner)
