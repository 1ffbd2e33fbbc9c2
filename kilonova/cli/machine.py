"""What this machine can do: which hypervisor and network `auto` means, and what is missing with the exact fix."""

from __future__ import annotations

import importlib.util
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from kilonova.base.faults import unavailable


@dataclass(frozen=True)
class Need:
    """Something a real cloud needs of the machine."""

    what: str
    there: bool
    fix: str


def _program(name: str, package: str) -> Need:
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return Need(name, shutil.which(name, path=path) is not None, f"apt-get install {package}")


def _module(name: str) -> Need:
    there = importlib.util.find_spec(name) is not None
    return Need(f"Python module {name}", there, "pip install 'kilonova[host]' (or make setup)")


def hypervisor_needs() -> list[Need]:
    """For --hypervisor libvirt."""
    return [
        Need("root", os.geteuid() == 0, "run as root: sudo kilonova up"),
        _program("qemu-system-x86_64", "qemu-system-x86"),
        _program("qemu-img", "qemu-utils"),
        _program("libvirtd", "libvirt-daemon libvirt-daemon-system"),
        _module("libvirt"),
    ]


def network_needs() -> list[Need]:
    """For --network linux."""
    return [
        Need("root", os.geteuid() == 0, "run as root: sudo kilonova up"),
        _program("dnsmasq", "dnsmasq-base"),
        Need("nftables", _library("libnftables.so.1"), "apt-get install nftables"),
        Need("network namespaces", Path("/proc/self/ns/net").exists(), "a kernel with CONFIG_NET_NS"),
        _module("pyroute2"),
    ]


def _library(name: str) -> bool:
    import ctypes

    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def _missing(needs: list[Need]) -> list[Need]:
    return [need for need in needs if not need.there]


def choose_hypervisor(asked: str) -> str:
    """libvirt or fake; asked for libvirt and something is missing: a Fault that lists each with its fix."""
    missing = _missing(hypervisor_needs())
    if asked == "auto":
        return "fake" if missing else "libvirt"
    if asked == "libvirt" and missing:
        raise _cannot("run real guests", missing, "--hypervisor fake")
    return asked


def choose_network(asked: str, hypervisor: str) -> str:
    """linux or fake; real guests need real networks."""
    missing = _missing(network_needs())
    if asked == "fake" and hypervisor == "libvirt":
        raise unavailable("Real guests need real networks.", hint="Use --network linux, or --hypervisor fake.")
    if asked == "auto":
        if hypervisor == "fake":
            return "fake"
        asked = "linux"
    if asked == "linux" and missing:
        raise _cannot("build real networks", missing, "--network fake --hypervisor fake")
    return asked


def _cannot(what: str, missing: list[Need], otherwise: str) -> Exception:
    lines = "; ".join(f"{need.what} is missing ({need.fix})" for need in missing)
    return unavailable(f"This machine cannot {what}: {lines}.", hint=f"Or start without: {otherwise}.")
