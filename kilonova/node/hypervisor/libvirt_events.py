"""libvirt's event loop: one daemon thread for the whole process, as libvirt's C library allows only one."""

from __future__ import annotations

import threading

import libvirt

_lock = threading.Lock()
_thread: threading.Thread | None = None


def ensure_event_thread() -> None:
    """Events and keep-alives of every connection opened from now on are served. Call before the first `open`."""
    global _thread  # noqa: PLW0603 — libvirt's own event implementation is global to the process
    with _lock:
        if _thread is None:
            libvirt.registerErrorHandler(_quiet, None)
            libvirt.virEventRegisterDefaultImpl()
            _thread = threading.Thread(target=_serve, name="libvirt-events", daemon=True)
            _thread.start()


def _serve() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


def _quiet(_context: object, _error: object) -> None:
    """libvirt prints every error to stderr unless told otherwise; ours are raised and logged."""
