"""Runs a command and buries its orphans; a script that imports nothing of ours and outlives whoever started it.

QEMU detaches from libvirt, so its parent becomes process 1. libvirt waits for a stopped QEMU until it is reaped:
where process 1 is slow or careless about that (containers, small init programs) every stop of a guest takes
seconds. With this process between, orphans are its children, and are reaped at once. It ends with the last one.
"""

from __future__ import annotations

import ctypes
import os
import sys

_PR_SET_CHILD_SUBREAPER = 36


def main() -> int:
    """The command's exit status, once it and all its orphans have ended."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    command = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ)
    status = 0
    while True:
        try:
            pid, ended = os.wait()
        except ChildProcessError:
            return status
        if pid == command:
            status = os.waitstatus_to_exitcode(ended)


if __name__ == "__main__":
    sys.exit(main())
