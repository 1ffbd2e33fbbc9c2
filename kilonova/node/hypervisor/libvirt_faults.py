"""What libvirt's errors mean to a person: a kind, a plain sentence, and what to do next."""

from __future__ import annotations

from typing import Final

import libvirt

from kilonova.base.faults import Fault, Kind, conflict, no_capacity, not_found, unavailable

# (text in libvirt's or QEMU's message, kind, sentence, hint); the first that matches counts.
_KNOWN: Final = (
    (
        "Cannot allocate memory",
        Kind.NO_CAPACITY,
        "The host has too little memory for the server.",
        "Choose a smaller flavor, or free memory on the host.",
    ),
    (
        "cannot set up guest memory",
        Kind.NO_CAPACITY,
        "The host has too little memory for the server.",
        "Choose a smaller flavor, or free memory on the host.",
    ),
    (
        "No space left on device",
        Kind.NO_CAPACITY,
        "The host's disk is full.",
        "Free disk space on the host.",
    ),
    (
        "Cannot check QEMU binary",
        Kind.UNAVAILABLE,
        "The host has no QEMU.",
        "Install the package qemu-system-x86 on the host.",
    ),
    (
        "could not get preferred machine",
        Kind.UNAVAILABLE,
        "The host has no QEMU that can run this guest.",
        "Install the package qemu-system-x86 on the host.",
    ),
    (
        "Could not access KVM kernel module",
        Kind.UNAVAILABLE,
        "The host's KVM cannot be used.",
        "Start the host with QEMU's own emulation, or load the KVM module.",
    ),
    (
        "Permission denied",
        Kind.UNAVAILABLE,
        "The host's QEMU may not open one of the server's files.",
        "QEMU's user needs search permission on every directory above the state directory.",
    ),
    (
        "Failed to get \"write\" lock",
        Kind.CONFLICT,
        "A disk of the server is in use by another process.",
        "Detach it there first, or make the volume multi-attach.",
    ),
    (
        "network namespace",
        Kind.UNAVAILABLE,
        "The host's network is not there.",
        "Restart the host's agents.",
    ),
)  # fmt: skip


def fault_of(error: libvirt.libvirtError, guest_id: str, doing: str) -> Fault:
    """The fault that `error` means, met while `doing` ("starting") something to the guest."""
    inside = f"{doing} {guest_id}: libvirt {error.get_error_code()}: {error.get_error_message()}"
    code = error.get_error_code()
    if code == libvirt.VIR_ERR_NO_DOMAIN:
        return not_found("Guest", guest_id, inside=inside)
    for text, kind, sentence, hint in _KNOWN:
        if text in inside:
            return Fault(kind, sentence, hint=hint, inside=inside)
    if code == libvirt.VIR_ERR_NO_MEMORY:
        return no_capacity("The host has too little memory for the server.", inside=inside)
    if code == libvirt.VIR_ERR_OPERATION_INVALID:
        return conflict(f"The guest {guest_id} is not in a state for {doing}.", inside=inside)
    if code == libvirt.VIR_ERR_OPERATION_TIMEOUT:
        return Fault(Kind.BUSY, "The host's hypervisor is busy with this server.", hint="Try again.", inside=inside)
    return unavailable(
        f"The host's hypervisor failed at {doing} the server.",
        hint="The operator finds libvirt's message in the log.",
        inside=inside,
    )
