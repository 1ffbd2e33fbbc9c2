"""Why no host was found: in the tenant's words, and host by host for operators. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from kilonova.base.faults import Fault, Kind
from kilonova.compute.contract import Flavor, Rejection, RequestSpec
from kilonova.compute.scheduler.filters import Filter
from kilonova.compute.scheduler.state import HostState

ROOM: Final = "Placement"
LOST: Final = "claim"
_WORDS: Final = {"VCPU": "{} VCPUs", "MEMORY_MB": "{} MB of memory", "DISK_GB": "{} GB of disk"}
_SHOWN_INSIDE: Final = 50


class Shortage(msgspec.Struct, frozen=True):
    """The most that is free of each class on one host in service, and how many hosts there are."""

    largest: dict[str, int]
    hosts: int


def amount_words(resource_class: str, amount: int) -> str:
    """`4096 MB of memory`"""
    return _WORDS.get(resource_class, f"{{}} {resource_class}").format(amount)


def room_words(state: HostState, spec: RequestSpec) -> str:
    """Why placement's books leave the host out, with the numbers."""
    short = [
        f"{amount_words(name, amount)} (free: {max(state.free(name), 0)})"
        for name, amount in spec.resources.items()
        if state.free(name) < amount
    ]
    return f"no room for {', '.join(short)}" if short else "it lacks a required trait, or may not give so much to one"


def nearest_fit(spec: RequestSpec, shortage: Shortage, flavors: Iterable[Flavor]) -> str:
    """The name of the largest flavor that one host could hold, by what is free; "" when none could."""
    fits = [
        one
        for one in flavors
        if one.vcpus <= shortage.largest.get("VCPU", one.vcpus)
        and one.memory_mb <= shortage.largest.get("MEMORY_MB", one.memory_mb)
        and (one.root_gb + one.ephemeral_gb <= shortage.largest.get("DISK_GB", one.root_gb + one.ephemeral_gb))
        and one.name != spec.flavor.name
        and one.memory_mb <= spec.flavor.memory_mb
        and one.vcpus <= spec.flavor.vcpus
    ]
    return max(fits, key=lambda one: (one.memory_mb, one.vcpus, one.root_gb)).name if fits else ""


def no_valid_host(
    spec: RequestSpec,
    rejections: Sequence[Rejection],
    emptied_by: str,
    said: tuple[Shortage, Mapping[str, Filter], str],
) -> Fault:
    """NO_CAPACITY: the sentence names no host; `data` and `inside` name each with its reason.

    `said`: (what is free, the filters by name, the flavor that would fit or "").
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


def _sentence(spec: RequestSpec, emptied_by: str, shortage: Shortage, filters: Mapping[str, Filter]) -> str:
    if emptied_by in filters:
        return filters[emptied_by].tells(spec)
    for name, amount in spec.resources.items():
        largest = shortage.largest.get(name, 0)
        if amount > largest:
            return f"The server needs {amount_words(name, amount)}, the largest free is {amount_words(name, largest)}."
    wanted = " and ".join(amount_words(name, amount) for name, amount in spec.resources.items() if amount)
    if emptied_by == LOST:
        return f"Other servers took the last hosts with {wanted}."
    return f"No one host has {wanted} and all that the flavor asks for."


def _hint(emptied_by: str, filters: Mapping[str, Filter], fitting: str) -> str:
    if emptied_by in filters:
        return "Ask for less, or ask the operator."
    if emptied_by == LOST:
        return "Try again, or ask for less."
    if fitting:
        return f"Flavor {fitting} would fit."
    return "Choose a smaller flavor, or try again when servers were deleted."
