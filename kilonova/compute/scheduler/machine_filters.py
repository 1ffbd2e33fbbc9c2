"""Filters about the kind of machine: architecture, hypervisor, capabilities, NUMA cells, PCI devices."""

from __future__ import annotations

import re
from typing import Any, Final

from kilonova.base.faults import Fault
from kilonova.compute.contract import RequestSpec
from kilonova.compute.contract.numa import fit, topology_of
from kilonova.compute.contract.pci import ALIAS, pci_wanted
from kilonova.compute.scheduler.comparing import matches
from kilonova.compute.scheduler.state import HostState

# Other names for one thing, in image properties and in what hypervisors say.
_SAME: Final = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64", "i386": "i686", "kvm": "qemu"}
# Scopes of extra specs that speak to others than this filter.
_SCOPE: Final = "capabilities:"


def _plain(word: str) -> str:
    lowered = word.strip().lower()
    return _SAME.get(lowered, lowered)


def image_properties(host: HostState, spec: RequestSpec) -> str:
    """The image runs on such a machine: architecture, hypervisor, and the hypervisor's version."""
    properties = spec.image_properties
    wanted = properties.get("hw_architecture") or properties.get("architecture", "")
    has = str(host.cpu_info.get("arch", ""))
    if wanted and has and _plain(wanted) != _plain(has):
        return f"the image is for {wanted}, the host is {has}"
    wanted = properties.get("img_hv_type") or properties.get("hypervisor_type", "")
    has = host.hypervisor_type
    if wanted and has and _plain(wanted) != _plain(has):
        return f"the image is for hypervisor {wanted}, the host has {has}"
    wanted = properties.get("img_hv_requested_version") or properties.get("hypervisor_version_requires", "")
    if wanted and host.hypervisor_version and not _version_fits(wanted, host.hypervisor_version):
        return f"the image needs hypervisor version {wanted}, the host has {host.hypervisor_version}"
    return ""


def _version_fits(wanted: str, has: int) -> bool:
    """`>=6.0, <8`: versions are compared as hypervisors count them, 6.2.1 = 6002001."""
    for part in wanted.split(","):
        found = re.fullmatch(r"\s*(<=|>=|==|!=|<|>|=)?\s*(\d+(?:\.\d+){0,2})\s*", part)
        if found is None:
            return False
        numbers = [int(number) for number in found[2].split(".")]
        number = numbers[0] if len(numbers) == 1 and numbers[0] > 1000 else _counted(numbers)
        if not matches(str(has), f"{_INTEGER[found[1] or '>=']} {number}"):
            return False
    return True


_INTEGER: Final = {"=": "==", "==": "==", "!=": "!=", "<": "<", ">": ">", "<=": "<=", ">=": ">="}


def _counted(numbers: list[int]) -> int:
    major, minor, micro = (*numbers, 0, 0)[:3]
    return major * 1_000_000 + minor * 1000 + micro


def capabilities(host: HostState, spec: RequestSpec) -> str:
    """`capabilities:KEY` of the flavor's specs, and plain keys that name something a host tells of itself."""
    for key, wanted in spec.flavor.extra_specs.items():
        if not key.startswith(_SCOPE):
            continue
        path = key.removeprefix(_SCOPE)
        has = _told(host, path.split(":"))
        if has is None:
            return f"the flavor asks for {path}, of which the host tells nothing"
        if not matches(has, wanted):
            return f"the flavor asks for {path} {wanted}, the host has {has}"
    return ""


def _told(host: HostState, path: list[str]) -> str | None:
    top: dict[str, Any] = {
        "hypervisor_type": host.hypervisor_type,
        "hypervisor_version": host.hypervisor_version,
        "hypervisor_hostname": host.node,
        "cpu_info": host.cpu_info,
        "cpu_arch": host.cpu_info.get("arch"),
    }
    value: Any = top
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return None if value is None else " ".join(map(str, value)) if isinstance(value, list) else str(value)


def asks_numa(spec: RequestSpec) -> bool:
    """Whether flavor or image ask for cells, CPUs of their own or huge pages."""
    try:
        return topology_of(spec.flavor, spec.image_properties) is not None
    except Fault:
        return True


def numa(host: HostState, spec: RequestSpec) -> str:
    """Whether the guest's cells find their CPUs, memory and pages on the host's, by its last report."""
    try:
        wanted = topology_of(spec.flavor, spec.image_properties)
    except Fault as fault:  # the API refuses such requests before they come here
        return fault.message
    if wanted is None:
        return ""
    found = fit(host.numa_cells, wanted)
    return found if isinstance(found, str) else ""


def asks_pci(spec: RequestSpec) -> bool:
    """Whether the flavor asks for PCI devices by alias."""
    return bool(spec.flavor.extra_specs.get(ALIAS))


def pci(host: HostState, spec: RequestSpec) -> str:
    """`pci_passthrough:alias` = "ALIAS:COUNT, …" against the devices that the host has left, by its last report."""
    try:
        wanted = pci_wanted(spec.flavor.extra_specs)
    except Fault as fault:
        return fault.message
    for alias, count in wanted.items():
        has = sum(pool.count for pool in host.pci_pools if alias in pool.aliases)
        if has < count:
            return f"it has {has} free PCI devices {alias}, {count} are wanted"
    return ""
