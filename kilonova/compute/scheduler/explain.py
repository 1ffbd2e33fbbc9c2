"""Why no host was found: in the tenant's words, and host by host for operators. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from kilonova.base.faults import Fault, Kind
from kilonova.compute.contract import Flavor, Rejection, RequestSpec, Short
from kilonova.compute.scheduler.filters import Filter
from kilonova.compute.scheduler.state import HostState

ROOM: Final = "Placement"
LOST: Final = "claim"
_WORDS: Final = {
    "VCPU": "{} VCPUs",
    "PCPU": "{} dedicated CPUs",
    "MEMORY_MB": "{} MB of memory",
    "DISK_GB": "{} GB of disk",
}
_SHOWN_INSIDE: Final = 50
_FLAVORS_TRIED: Final = 50


class Shortage(msgspec.Struct, frozen=True):
    """The most that is free of each class on one of the hosts that would take the server if they had room."""

    largest: dict[str, int]


def amount_words(resource_class: str, amount: int) -> str:
    """`4096 MB of memory`"""
    return _WORDS.get(resource_class, f"{{}} {resource_class}").format(amount)


def short_of(state: HostState, spec: RequestSpec) -> dict[str, Short]:
    """The classes of which the host has less left than is asked for."""
    return {
        name: Short(amount, max(state.free(name), 0), state.capacity.get(name, 0), state.ratios.get(name, 1.0))
        for name, amount in spec.resources.items()
        if state.free(name) < amount
    }


def room_words(short: Mapping[str, Short]) -> str:
    """Why placement's books leave a host out, with the numbers."""
    told = [
        f"{amount_words(name, one.asked)} (free: {one.free} of {one.capacity}, ratio {one.ratio:g})"
        for name, one in short.items()
    ]
    return f"no room for {', '.join(told)}" if told else "it lacks a required trait, or may not give so much to one"


def smaller(spec: RequestSpec, flavors: Iterable[Flavor]) -> list[Flavor]:
    """Flavors that ask for no more than the request's and fit its image, the largest first, and not too many."""
    mine = spec.flavor
    fewer = [
        one
        for one in flavors
        if one.memory_mb >= spec.least_memory_mb and (one.root_gb >= spec.least_disk_gb or not one.root_gb)
        if (one.memory_mb, one.vcpus) != (mine.memory_mb, mine.vcpus) or one.root_gb < mine.root_gb
        if one.memory_mb <= mine.memory_mb and one.vcpus <= mine.vcpus
    ]
    fewer.sort(key=lambda one: (one.memory_mb, one.vcpus, one.root_gb), reverse=True)
    return fewer[:_FLAVORS_TRIED]


def no_valid_host(
    spec: RequestSpec,
    rejections: Sequence[Rejection],
    emptied_by: str,
    said: tuple[Shortage | None, Mapping[str, Filter], str],
) -> Fault:
    """NO_CAPACITY: the sentence names no host; `data` and `inside` name each with its reason.

    `said`: (what is free where nothing but room is missing, the filters by name, the flavor that would fit or "").
    """
    shortage, filters, fitting = said
    told = "; ".join(f"{one.host}: {one.filter}: {one.reason}" for one in rejections[:_SHOWN_INSIDE])
    return Fault(
        Kind.NO_CAPACITY,
        f"No valid host was found. {_sentence(spec, emptied_by, shortage, filters)}",
        hint=_hint(emptied_by, filters, fitting),
        inside=told or "there is no compute host",
        code="NoValidHost",
        data={"rejections": msgspec.to_builtins(list(rejections))},
    )


def _sentence(spec: RequestSpec, emptied_by: str, shortage: Shortage | None, filters: Mapping[str, Filter]) -> str:
    if emptied_by in filters:
        return filters[emptied_by].tells(spec)
    for name, amount in spec.resources.items() if shortage else ():
        largest = shortage.largest.get(name, 0) if shortage else 0
        if amount > largest:
            place = f" in availability zone {spec.availability_zone}" if spec.availability_zone else ""
            needs, free = amount_words(name, amount), amount_words(name, largest)
            return f"The server needs {needs}, the largest free{place} is {free}."
    wanted = " and ".join(amount_words(name, amount) for name, amount in spec.resources.items() if amount)
    if emptied_by == LOST:
        return f"Other servers took the last hosts with {wanted}."
    if shortage is None:
        return "There is no compute host."
    return f"No one host has {wanted} and all that the flavor asks for."


def _hint(emptied_by: str, filters: Mapping[str, Filter], fitting: str) -> str:
    if emptied_by in filters:
        return "Ask for less, or ask the operator."
    if emptied_by == LOST:
        return "Try again, or ask for less."
    if fitting:
        return f"Flavor {fitting} would fit."
    return "Choose a smaller flavor, or try again when servers were deleted."
