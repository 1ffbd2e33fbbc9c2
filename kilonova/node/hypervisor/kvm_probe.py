"""Whether KVM really runs guests here: decided by booting a Linux kernel, as a device that opens proves nothing.

On some machines (nested virtualisation that is only half there) `/dev/kvm` opens and firmware runs, and a kernel
hangs after its first instructions. So the probe waits for what a kernel prints once it has started its devices.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Final

import msgspec

from kilonova.node.hypervisor.libvirtd import qemu_user

# What Linux prints when it starts its first process, or finds that it has no root file system to look for one.
_BOOTED: Final = (b"Run /", b"Unable to mount root fs", b"not syncing: VFS", b"No working init found")
_QEMU: Final = "qemu-system-x86_64"
_KVM: Final = "/dev/kvm"
_ENTER: Final = 'mount --bind "$1" /dev/kvm && shift && exec "$@"'


class Verdict(msgspec.Struct, frozen=True):
    """`kvm` or `tcg`, and why, as `doctor` shows it."""

    accelerator: str
    reason: str


def probe(state_directory: str, kernel: str, timeout_seconds: float = 20) -> Verdict:
    """What guests on this machine should run on. Blocks; up to `timeout_seconds` the first time.

    `kernel` is a Linux bzImage ("" when there is none: then the answer is tcg). Verdicts of a real boot are kept in
    `state_directory`, for this kernel of the machine and this QEMU.
    """
    if shutil.which(_QEMU) is None:
        return Verdict("tcg", "QEMU is not installed")
    if not os.path.exists(_KVM):
        return Verdict("tcg", "this machine has no /dev/kvm")
    if not kernel or not os.path.exists(kernel):
        return Verdict("tcg", "no kernel to try KVM with")
    if os.geteuid() != 0 and not os.access(_KVM, os.R_OK | os.W_OK):
        return Verdict("tcg", "/dev/kvm may not be opened by this user")
    kept = Path(state_directory) / "kvm-probe.json"
    key = f"{os.uname().release} {_qemu_version()}"
    if (known := _kept(kept)).get(key):
        return known[key]
    verdict = _boot(kernel, timeout_seconds)
    kept.parent.mkdir(parents=True, exist_ok=True)
    part = kept.with_suffix(".part")
    part.write_bytes(msgspec.json.encode({key: verdict}))
    part.replace(kept)
    return verdict


def _kept(path: Path) -> dict[str, Verdict]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Verdict])
    except (OSError, msgspec.DecodeError):
        return {}


def _qemu_version() -> str:
    done = subprocess.run([_QEMU, "--version"], capture_output=True, text=True, timeout=20, check=False)
    return done.stdout.partition("\n")[0]


def _boot(kernel: str, timeout_seconds: float) -> Verdict:
    """Boot `kernel` on KVM as QEMU's user, with a device of its own, and wait for a sign of life."""
    with tempfile.TemporaryDirectory(prefix="kilonova-kvm-") as directory:
        command = [
            _QEMU, "-accel", "kvm", "-cpu", "host", "-m", "128", "-nodefaults", "-no-reboot", "-display", "none",
            "-serial", "stdio", "-kernel", "KERNEL", "-append", "console=ttyS0 panic=-1",
        ]  # fmt: skip
        if os.geteuid() == 0:
            command = [*_as_qemu_user(directory), *command]
        with open(kernel, "rb") as image:
            command[command.index("KERNEL")] = f"/dev/fd/{image.fileno()}"
            guest = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[image.fileno()],
                start_new_session=True,
            )
        stopper = threading.Timer(timeout_seconds, guest.kill)
        stopper.start()
        try:
            return _watch(guest)
        finally:
            stopper.cancel()
            guest.kill()
            guest.wait()
            if guest.stdout is not None:
                guest.stdout.close()


def _as_qemu_user(directory: str) -> list[str]:
    user = qemu_user()
    node = os.path.join(directory, "kvm")
    os.mknod(node, 0o600 | stat.S_IFCHR, os.stat(_KVM).st_rdev)
    os.chown(node, user.pw_uid, user.pw_gid)
    drop = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--no-new-privs", "--"]
    return ["unshare", "--mount", "--net", "--propagation", "private", "--", "sh", "-c", _ENTER, "probe", node, *drop]


def _watch(guest: subprocess.Popen[bytes]) -> Verdict:
    """Read what the guest prints until it lives, ends, or is stopped by the timer."""
    assert guest.stdout is not None
    said = b""
    while more := os.read(guest.stdout.fileno(), 65536):
        said += more
        if any(mark in said for mark in _BOOTED):
            return Verdict("kvm", "a kernel booted on KVM")
    tail = said[-200:].decode(errors="replace").strip() or "it printed nothing"
    return Verdict("tcg", f"a kernel did not boot on KVM: {tail}")
