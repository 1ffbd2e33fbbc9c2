"""A way out for guests through whatever connection the machine has, by slirp4netns: a program beside us that takes
packets from a tap in the cloud's edge and opens connections of its own for them, as a browser on the machine would.

It needs no address, no rule and no setting of the machine, and works on Wi-Fi. It ends in no capability and under
seccomp, and is adopted by whoever comes after us. Blocking: for a thread that is in the machine's root namespace.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path
from typing import Final

from kilonova.base.faults import unavailable
from kilonova.node.vswitch import namespace
from kilonova.node.vswitch.links import Links

PROGRAM: Final = "slirp4netns"
CIDR: Final = "198.18.0.0/24"  # RFC 2544: of nobody's network. Between edge and program only
ADDRESS: Final = "198.18.0.100/24"
GATEWAY: Final = "198.18.0.2"
MTU: Final = 1500
# Of the machine itself and of the clouds on it; the machine's own addresses are added as they are now.
CLOSED: Final = ("127.0.0.0/8", "169.254.0.0/16", "172.24.0.0/16", CIDR)
# Its sandbox unmounts everything. Where mounts are shared (/run/netns is), the machine's would go with its own.
_MOUNTS_OF_ITS_OWN: Final = ("unshare", "--mount", "--propagation", "private")
PAUSE_SECONDS: Final = 0.05
START_TRIES: Final = 200


def is_here() -> bool:
    """Whether the program is installed."""
    return shutil.which(PROGRAM) is not None


def ensure(edge: str, tap: str, home: Path) -> None:
    """The program runs for the tap `tap` in the namespace `edge`; the one that runs already is adopted.

    UNAVAILABLE when it does not start; its log is in `home`."""
    if running(home) and _is_there(edge, tap):
        return
    stop(home)
    home.mkdir(parents=True, exist_ok=True)
    confined = ("--disable-host-loopback", "--disable-dns", "--enable-sandbox", "--enable-seccomp")
    where = ("--netns-type=path", f"--mtu={MTU}", f"--cidr={CIDR}", str(namespace.DIRECTORY / edge), tap)
    command = [*_MOUNTS_OF_ITS_OWN, PROGRAM, *confined, *where]
    with open(home / "log", "ab") as log:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    (home / "pid").write_text(f"{child.pid}\n")
    for _ in range(START_TRIES):
        if _is_there(edge, tap):
            return
        if child.poll() is not None:
            break
        threading.Event().wait(PAUSE_SECONDS)
    stop(home)
    told = (home / "log").read_text(errors="replace")[-500:]
    raise unavailable(f"{PROGRAM} did not start.", hint=f"See {home}/log, or use --uplink none.", inside=told)


def _is_there(edge: str, tap: str) -> bool:
    with namespace.visiting(edge), Links() as links:
        return links.get(tap) is not None


def running(home: Path) -> int:
    """The id of the program whose files are in `home`; 0 when none runs. A reused id is not taken for it."""
    try:
        pid = int((home / "pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return 0
    return pid if command[0] == PROGRAM.encode() else 0


def stop(home: Path) -> None:
    """It has ended; by force after 2 s."""
    for attempt in range(50):
        pid = running(home)
        if not pid:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM if attempt < 40 else signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):  # it was another process's child
            os.waitpid(pid, os.WNOHANG)
        threading.Event().wait(PAUSE_SECONDS)


def closed_now() -> list[str]:
    """Where guests must not get by it: the machine's own addresses in the calling thread's namespace, and `CLOSED`."""
    with Links() as links:
        return sorted({*CLOSED, *links.own_addresses()})
