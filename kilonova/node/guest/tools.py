"""The programs of the build machine that the guest's builder calls, and what to install when one is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from kilonova.base.faults import unavailable

# An ordinary user's PATH often lacks the sbin folders, where e2fsprogs and dosfstools live.
SEARCH_PATH = os.pathsep.join(("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin", "/bin"))
BOOT_CODE = Path("/usr/lib/syslinux/mbr/mbr.bin")
TOOLS = (
    ("apt-cache", "apt"),
    ("apt-get", "apt"),
    ("dpkg-deb", "dpkg"),
    ("mke2fs", "e2fsprogs"),
    ("debugfs", "e2fsprogs"),
    ("e2fsck", "e2fsprogs"),
    ("mkfs.vfat", "dosfstools"),
    ("mcopy", "mtools"),
    ("syslinux", "syslinux"),
    ("qemu-img", "qemu-utils"),
)


def missing_tools(search_path: str = SEARCH_PATH) -> list[tuple[str, str]]:
    """(tool, Debian package that brings it) for every program the builder needs and this machine lacks."""
    missing = [(tool, package) for tool, package in TOOLS if shutil.which(tool, path=search_path) is None]
    if not BOOT_CODE.is_file():
        missing.append((str(BOOT_CODE), "syslinux-common"))
    return missing


def require_tools(search_path: str = SEARCH_PATH) -> None:
    """Returns when all tools are there. Raises UNAVAILABLE naming the missing ones and the fix."""
    if missing := missing_tools(search_path):
        packages = " ".join(sorted({package for _tool, package in missing}))
        raise unavailable(
            f"The guest image cannot be built here: {', '.join(tool for tool, _package in missing)} not found.",
            hint=f"Run: apt-get install {packages}",
        )


def run(tool: str, *arguments: str | Path, cwd: Path | None = None, environment: dict[str, str] | None = None) -> str:
    """What the tool printed, as text. Raises UNAVAILABLE with the tool's last error line when it fails."""
    return run_for_bytes(tool, *arguments, cwd=cwd, environment=environment).decode(errors="replace")


def run_for_bytes(
    tool: str, *arguments: str | Path, cwd: Path | None = None, environment: dict[str, str] | None = None
) -> bytes:
    """What the tool printed. Raises UNAVAILABLE with the tool's last error line when it fails."""
    command = [shutil.which(tool, path=SEARCH_PATH) or tool, *map(str, arguments)]
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "LC_ALL": "C", "PATH": SEARCH_PATH, **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        errors = done.stderr.decode(errors="replace").strip()
        last = (errors or f"exit status {done.returncode}").splitlines()[-1]
        raise unavailable(
            f"The guest image cannot be built: {tool} failed: {last}",
            inside=f"{' '.join(command)}\n{errors}",
        )
    return done.stdout
