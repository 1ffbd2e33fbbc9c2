"""A libvirt daemon of a host's own: in the host's network namespace, with its own directories and host UUID.

Several hosts fit on one machine because each daemon sees its own `/run/libvirt`, `/var/lib/libvirt`, … (bind
mounts in a private mount namespace), and shares nothing with the machine's libvirt. The daemon is detached: it
and its guests outlive the process that started them, and a later process adopts them by the locked pid file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import NAMESPACE_DNS, uuid5

from kilonova.base.faults import Fault, conflict, unavailable

_PLACES = {
    "run": "/run/libvirt",
    "lib": "/var/lib/libvirt",
    "log": "/var/log/libvirt",
    "etc": "/etc/libvirt",
    "cache": "/var/cache/libvirt",
}

_ENTER = """
set -e
directory=$1
hostname "$2"
# Nothing may be left behind on the machine, so a /run/libvirt that is missing is made on a private /run.
if [ ! -d /run/libvirt ]; then case $directory in /run/*) ;; *) mount -t tmpfs -o mode=755 tmpfs /run;; esac; fi
# The namespace's own view of its interfaces in /sys, with the machine's control groups put back.
mount --rbind /sys/fs/cgroup "$directory/cgroup"
# In the machine's own namespace /sys shows them already, and cannot be mounted over itself.
if mount -t sysfs sysfs /sys 2>/dev/null; then mount --rbind "$directory/cgroup" /sys/fs/cgroup; fi
umount -l "$directory/cgroup"
# libvirt looks its own host name up at every start of a guest: without an answer it waits for DNS, for minutes.
mount --bind "$directory/etc/hosts" /etc/hosts
for pair in run:/run/libvirt lib:/var/lib/libvirt log:/var/log/libvirt etc:/etc/libvirt cache:/var/cache/libvirt; do
  mkdir -p "${pair#*:}"
  mount --bind "$directory/${pair%%:*}" "${pair#*:}"
done
if [ -e /dev/kvm ]; then mount --bind "$directory/kvm" /dev/kvm; fi
exec libvirtd --config /etc/libvirt/libvirtd.conf --pid-file /run/libvirt/libvirtd.pid
"""

_DAEMON_CONF = """\
unix_sock_group = "root"
unix_sock_rw_perms = "0700"
unix_sock_ro_perms = "0700"
auth_unix_ro = "none"
auth_unix_rw = "none"
listen_tls = 0
listen_tcp = 0
log_outputs = "3:file:/var/log/libvirt/libvirtd.log"
host_uuid = "{host_uuid}"
"""

_QEMU_CONF = """\
# QEMU runs as a user of its own and owns nothing but its guests' files; who owns a file is decided by the agent.
user = "{user}"
group = "{group}"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
seccomp_sandbox = 1
namespaces = []
cgroup_controllers = {controllers}
# No virtlogd: QEMU appends to the console files itself.
stdio_handler = "file"
vnc_listen = "127.0.0.1"
migration_address = "0.0.0.0"
"""

_POLL_SECONDS = 0.05
_SOCKET_PATH_MAX = 107  # sockaddr_un
_KVM_DEVICE = os.makedev(10, 232)


def qemu_user() -> pwd.struct_passwd:
    """The user that QEMU runs as, made by the distribution's libvirt package. UNAVAILABLE when there is none."""
    for name in ("libvirt-qemu", "qemu"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise unavailable(
        "This machine has no user for QEMU.",
        hint="Install the packages libvirt-daemon-system and qemu-system-x86 (Debian), or libvirt and qemu-kvm.",
    )


class PrivateLibvirtd:
    """One host's libvirt daemon. All methods block; call them off the event loop.

    `namespace` names a network namespace under /run/netns ("" stays in the caller's). `kvm` gives QEMU its own
    node of /dev/kvm, without touching the machine's.
    """

    def __init__(self, directory: str, name: str, *, namespace: str = "", kvm: bool = False) -> None:
        self.directory = Path(directory)
        self._name = name
        self._namespace = namespace
        self._kvm = kvm
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def socket_path(self) -> str:
        """Where the daemon listens, as seen from outside its namespaces."""
        return str(self.directory / "run" / "libvirt-sock")

    @property
    def uri(self) -> str:
        """What libvirt's clients open."""
        return f"qemu+unix:///system?socket={self.socket_path}"

    def pid(self) -> int:
        """The daemon's process id, 0 when it does not run. Whoever holds the pid file's lock is the daemon."""
        if self._child is not None:
            self._child.poll()  # reap it if it ended
        return _lock_holder(self.directory / "run" / "libvirtd.pid")

    def ensure_running(self, timeout_seconds: float = 30) -> None:
        """The daemon answers on its socket: adopted when it runs, started when not. UNAVAILABLE with the reason."""
        if len(self.socket_path) > _SOCKET_PATH_MAX:
            raise unavailable(
                f"The state directory's path is too long: {self.directory}",
                hint=f"Choose one so that {self.socket_path} has at most {_SOCKET_PATH_MAX} characters.",
            )
        self._make_directories()
        with self._locked():
            if not self.pid():
                self._start()
            for _ in range(int(timeout_seconds / _POLL_SECONDS)):
                if self._answers():
                    return
                if self._child is not None and self._child.poll() is not None:
                    break
                threading.Event().wait(_POLL_SECONDS)
            raise self._did_not_start()

    def stop(self, timeout_seconds: float = 15) -> None:
        """The daemon has ended. CONFLICT while guests run, as nobody would watch them."""
        if running := self.running_guests():
            raise conflict(f"{len(running)} guests still run on host {self._name}.", hint="Stop them first.")
        pid = self.pid()
        if not pid:
            return
        os.kill(pid, signal.SIGTERM)
        for _ in range(int(timeout_seconds / _POLL_SECONDS)):
            if self.pid() != pid:
                break
            threading.Event().wait(_POLL_SECONDS)
        else:
            os.kill(pid, signal.SIGKILL)
        if self._child is not None:
            self._child.wait(timeout_seconds)

    def running_guests(self) -> list[str]:
        """Names of the guests whose QEMU lives, with or without the daemon."""
        return [path.stem for path in (self.directory / "run" / "qemu").glob("*.pid") if _qemu_lives(path)]

    # ── inside

    def _make_directories(self) -> None:
        user = qemu_user()
        for place in _PLACES:
            (self.directory / place).mkdir(parents=True, exist_ok=True)
        (self.directory / "cgroup").mkdir(exist_ok=True)
        _write(self.directory / "etc" / "hosts", f"127.0.0.1 localhost\n127.0.1.1 {self._name}\n::1 localhost\n")
        identity = str(uuid5(NAMESPACE_DNS, f"{self.directory.resolve()}/{self._name}"))
        controllers = [name for name in ("cpu", "cpuacct") if Path("/sys/fs/cgroup", name).is_dir()]
        if Path("/sys/fs/cgroup/cgroup.controllers").exists():
            controllers = ["cpu", "cpuacct"]
        listed = "[ " + ", ".join(f'"{name}"' for name in controllers) + " ]"
        _write(self.directory / "etc" / "libvirtd.conf", _DAEMON_CONF.format(host_uuid=identity))
        _write(
            self.directory / "etc" / "qemu.conf",
            _QEMU_CONF.format(user=user.pw_name, group=f"+{user.pw_gid}", controllers=listed),
        )
        self._make_kvm_node(user)

    def _make_kvm_node(self, user: pwd.struct_passwd) -> None:
        """What this host has for /dev/kvm: a device of QEMU's own, or a file that nobody can open.

        Leaving the machine's root-only device in sight confuses libvirt: its probe gets through, its check does
        not, so it probes QEMU again before each of some twenty look-ups.
        """
        node = self.directory / "kvm"
        if node.exists() and stat.S_ISCHR(node.stat().st_mode) == self._kvm:
            return
        node.unlink(missing_ok=True)
        if self._kvm:
            os.mknod(node, 0o600 | stat.S_IFCHR, _KVM_DEVICE)
            os.chown(node, user.pw_uid, user.pw_gid)
        else:
            node.touch(mode=0o000)

    def _start(self) -> None:
        for program, package in (("libvirtd", "libvirt-daemon"), ("unshare", "util-linux"), ("nsenter", "util-linux")):
            if shutil.which(program, path=_path()) is None:
                raise unavailable(f"This machine has no {program}.", hint=f"Install the package {package}.")
        enter = ["nsenter", f"--net=/run/netns/{self._namespace}", "--"] if self._namespace else []
        bury = [sys.executable, "-I", "-S", str(Path(__file__).with_name("reaper.py"))]
        command = [*bury, *enter, "unshare", "--mount", "--uts", "--propagation", "private", "--"]
        command += ["sh", "-c", _ENTER, "libvirtd-of-a-host", str(self.directory.resolve()), self._name]
        with open(self.directory / "log" / "start.log", "ab") as log:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
                env={"PATH": _path(), "LANG": "C.UTF-8"},
            )

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            try:
                probe.connect(self.socket_path)
            except OSError:
                return False
        return True

    def _did_not_start(self) -> Fault:
        said = ""
        for log in ("start.log", "libvirtd.log"):
            with contextlib.suppress(OSError):
                said += (self.directory / "log" / log).read_text(errors="replace")[-1000:]
        return unavailable(
            f"The libvirt daemon of host {self._name} does not start.",
            hint=f"Its log is in {self.directory / 'log'}.",
            inside=said,
        )

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Only one process starts the daemon at a time."""
        with open(self.directory / "start.lock", "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _path() -> str:
    return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def _write(path: Path, text: str) -> None:
    """Write unless it already says so: a running daemon's files are left alone."""
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


_FLOCK = "hhqqi4x"


def _lock_holder(path: Path) -> int:
    """Process id that holds a POSIX lock on `path`, or 0: no stale pid file and no reused pid can deceive."""
    try:
        with open(path, "r+b") as file:
            asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(file, fcntl.F_GETLK, asked))
    except FileNotFoundError:
        return 0
    return 0 if kind == fcntl.F_UNLCK else int(pid)


def _qemu_lives(pid_file: Path) -> bool:
    try:
        pid = int(pid_file.read_text().split()[0])
        return Path(f"/proc/{pid}/comm").read_text().startswith("qemu")
    except (OSError, ValueError, IndexError):
        return False
