"""What a process tells systemd of itself: that it is ready, that it leaves (sd_notify(3), units with Type=notify)."""

from __future__ import annotations

import contextlib
import os
import socket


class Supervisor:
    """Who started this process and wants to know; nobody, when it was not started by systemd."""

    def __init__(self) -> None:
        self._address = os.environ.pop("NOTIFY_SOCKET", "")  # guests and DHCP servers do not speak for us

    def ready(self) -> None:
        """It serves now: `systemctl restart` returns."""
        self._tell("READY=1")

    def leaving(self) -> None:
        """It ends what is under way."""
        self._tell("STOPPING=1")

    def _tell(self, line: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
            to.sendto(line.encode(), address)
