"""Why no host was found: in the tenant's words, and host by host for operators. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from kilonova.base.faults import Fault, Kind
from kilonova.compute.contract import Rejection, RequestSpec
from kilonova.compute.scheduler.filters import FILTERS
from kilonova.compute.scheduler.state import HostState

Free = Mapping[str, Mapping[str, int]]  # resource class → provider id → how much is free; absent: nothing
ROOM: Final = "Placement"
_WORDS: Final = {"VCPU": "{} VCPUs", "MEMORY_MB": "{} MB of memory", "DISK_GB": "{} GB of disk"}
_SHOWN_INSIDE: Final = 50


def _amount(resource_class: str, amount: int) -> str:
    return _WORDS.get(resource_class, f"{{}} {resource_class}").format(amount)


def without_room(states: Sequence[HostState], fits: frozenset[str], spec: RequestSpec, free: Free) -> list[Rejection]:
    """A rejection for each host that placement did not offer."""
    return [
        Rejection(state.host, ROOM, _why(state.provider_id, spec.resources, free))
        for state in states
        if state.provider_id not in fits
    ]


def _why(provider_id: str, resources: Mapping[str, int], free: Free) -> str:
    short = [
        f"{_amount(name, amount)} (free: {left})"
        for name, amount in resources.items()
        if (left := free.get(name, {}).get(provider_id, 0)) < amount
    ]
    return f"no room for {', '.join(short)}" if short else "it lacks a required trait, or may not give so much to one"


def no_valid_host(spec: RequestSpec, rejections: Sequence[Rejection], free: Free, last_filter: str) -> Fault:
    """NO_CAPACITY: the sentence names no host; `data` and `inside` name each with its reason."""
    told = "; ".join(f"{one.host}: {one.filter}: {one.reason}" for one in rejections[:_SHOWN_INSIDE])
    return Fault(
        Kind.NO_CAPACITY,
        f"No valid host was found. {_sentence(spec, free, last_filter)}",
        hint=_hint(last_filter),
        inside=told or "there is no compute host",
        code="NoValidHost",
        data={"rejections": msgspec.to_builtins(list(rejections))},
    )


def _sentence(spec: RequestSpec, free: Free, last_filter: str) -> str:
    if last_filter in FILTERS:
        return FILTERS[last_filter].tells(spec)
    for name, amount in spec.resources.items():
        largest = max(free.get(name, {}).values(), default=0)
        if amount > largest:
            return f"The server needs {_amount(name, amount)}, the largest free is {_amount(name, largest)}."
    wanted = " and ".join(_amount(name, amount) for name, amount in spec.resources.items() if amount)
    if last_filter:
        return f"Other servers took the last hosts with {wanted}."
    return f"No one host has {wanted} and all that the flavor asks for."


def _hint(last_filter: str) -> str:
    if not last_filter:
        return "Choose a smaller flavor, or try again when servers were deleted."
    return "Try again, or ask for less." if last_filter not in FILTERS else "Ask for less, or ask the operator."
