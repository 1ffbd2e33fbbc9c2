"""Filters: pure questions to one host about one request. The answer is "" (it may stay) or why it may not.

Names are those that operators know. Room is no filter: placement answers only with hosts that have it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from kilonova.base.faults import invalid
from kilonova.compute.contract import Rejection, RequestSpec
from kilonova.compute.scheduler.state import Candidate, HostState


class Filter(msgspec.Struct, frozen=True):
    """A named question. `tells` says to a tenant, without naming hosts, why nothing was left."""

    name: str
    refuses: Callable[[HostState, RequestSpec], str]
    tells: Callable[[RequestSpec], str]


def _compute(host: HostState, _spec: RequestSpec) -> str:
    if not host.enabled:
        return f"the compute service is disabled{f': {host.disabled_reason}' if host.disabled_reason else ''}"
    return "" if host.up else "the compute service is down"


def _availability_zone(host: HostState, spec: RequestSpec) -> str:
    if spec.availability_zone in ("", host.availability_zone):
        return ""
    return f"it is in availability zone {host.availability_zone}, not {spec.availability_zone}"


def _requested_host(host: HostState, spec: RequestSpec) -> str:
    if spec.requested_host and spec.requested_host not in (host.host, host.node):
        return f"{spec.requested_host} was asked for"
    return "it was tried before, or must be avoided" if host.host in spec.ignore_hosts else ""


# Other names for one thing, in image properties and in what hypervisors say.
_SAME: Final = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64", "i386": "i686", "kvm": "qemu"}


def _plain(word: str) -> str:
    lowered = word.strip().lower()
    return _SAME.get(lowered, lowered)


def _image_properties(host: HostState, spec: RequestSpec) -> str:
    properties = spec.image_properties
    wanted = properties.get("hw_architecture") or properties.get("architecture", "")
    has = str(host.cpu_info.get("arch", ""))
    if wanted and has and _plain(wanted) != _plain(has):
        return f"the image is for {wanted}, the host is {has}"
    wanted = properties.get("img_hv_type") or properties.get("hypervisor_type", "")
    has = host.hypervisor_type
    if wanted and has and _plain(wanted) != _plain(has):
        return f"the image is for hypervisor {wanted}, the host has {has}"
    return ""


def hinted(spec: RequestSpec, name: str) -> frozenset[str]:
    """The server ids of a scheduler hint, given as one or as a list."""
    value = spec.scheduler_hints.get(name) or ()
    return frozenset([value]) if isinstance(value, str) else frozenset(str(one) for one in value)


def _same_host(host: HostState, spec: RequestSpec) -> str:
    wanted = hinted(spec, "same_host")
    return "none of the servers to be near to is here" if wanted and not wanted & host.servers else ""


def _different_host(host: HostState, spec: RequestSpec) -> str:
    near = hinted(spec, "different_host") & host.servers
    return f"{', '.join(sorted(near))} is here, which the server must not be near to" if near else ""


def _group(policy: str) -> Callable[[HostState, RequestSpec], str]:
    def refuses(host: HostState, spec: RequestSpec) -> str:
        return spec.group.refuses(host.host) if spec.group and spec.group.policy == policy else ""

    return refuses


def _zone_words(spec: RequestSpec) -> str:
    return f"No host in availability zone {spec.availability_zone} can take it."


def _host_words(spec: RequestSpec) -> str:
    return "The requested host cannot take it." if spec.requested_host else "No other host can take it."


FILTERS: Final = {
    made.name: made
    for made in (
        Filter("ComputeFilter", _compute, lambda _: "No compute host with room is in service now."),
        Filter("AvailabilityZoneFilter", _availability_zone, _zone_words),
        Filter("RequestedHostFilter", _requested_host, _host_words),
        Filter("ImagePropertiesFilter", _image_properties, lambda _: "No host can run this kind of image."),
        Filter("SameHostFilter", _same_host, lambda _: "No host with the servers of the hint same_host can take it."),
        Filter("DifferentHostFilter", _different_host, lambda _: "Every host has a server of the hint different_host."),
        Filter(
            "ServerGroupAntiAffinityFilter",
            _group("anti-affinity"),
            lambda _: "Every host has as many servers of the group as its policy allows.",
        ),
        Filter(
            "ServerGroupAffinityFilter",
            _group("affinity"),
            lambda _: "The host of the group's other servers cannot take it.",
        ),
    )
}
DEFAULT_FILTERS: Final = tuple(FILTERS)


def chosen_filters(names: Iterable[str]) -> tuple[Filter, ...]:
    """The filters of these names, in this order; INVALID for a name that is none."""
    wanted = tuple(names)
    if unknown := [name for name in wanted if name not in FILTERS]:
        raise invalid(f"There is no scheduler filter {', '.join(unknown)}.", hint=f"Known: {', '.join(FILTERS)}.")
    return tuple(FILTERS[name] for name in wanted)


class Filtered(msgspec.Struct, frozen=True):
    """What passed, what did not and why, and how many were left after each filter."""

    left: list[Candidate]
    rejections: list[Rejection]
    counts: list[tuple[str, int]]  # (filter, hosts left), up to the one that left none


def run(filters: Sequence[Filter], candidates: Iterable[Candidate], spec: RequestSpec) -> Filtered:
    """Ask each filter about those that the ones before it left."""
    result = Filtered(list(candidates), [], [])
    left = result.left
    for one in filters:
        passed = []
        for candidate in left:
            if reason := one.refuses(candidate.state, spec):
                result.rejections.append(Rejection(candidate.state.host, one.name, reason))
            else:
                passed.append(candidate)
        left = passed
        result.counts.append((one.name, len(left)))
        if not left:
            break
    return msgspec.structs.replace(result, left=left)
