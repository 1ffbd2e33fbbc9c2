"""Hosts, requests and a table with its mirror, for tests of the scheduler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from kilonova.compute.contract import Flavor, RequestSpec
from kilonova.compute.scheduler.state import HostState, HostsView
from kilonova.compute.scheduler.table import HostTable
from kilonova.placement.contract import Changes, Inventory, ProviderBooks
from kilonova.placement.mirror.books import Mirror


def host(number: int = 1, **more: Any) -> HostState:
    return HostState(f"node{number}", f"node{number}.example", f"provider-{number}", **more)


def with_room(
    number: int, *, used: dict[str, int] | None = None, more: dict[str, Any] | None = None, **free: int
) -> HostState:
    """A host that has `free` of each class and nothing used, unless told."""
    used = used or {}
    capacity = {name: amount + used.get(name, 0) for name, amount in free.items()}
    return host(number, capacity=capacity, used={name: used.get(name, 0) for name in free}, **(more or {}))


def table_of(states: Sequence[HostState], *, traits: dict[str, tuple[str, ...]] | None = None) -> HostTable:
    """The hosts with books that say what their states say."""
    mirror, table = Mirror(), HostTable()
    books = tuple(
        ProviderBooks(
            state.provider_id,
            state.node,
            1,
            None,
            state.provider_id,
            {name: Inventory(amount) for name, amount in state.capacity.items()},
            dict(state.used),
            (traits or {}).get(state.host, state.traits),
        )
        for state in states
    )
    mirror.apply(Changes("1", True, books))
    counts = {state.host: (state.servers, state.building) for state in states}
    table.follow(HostsView(1, [msgspec.structs.replace(state) for state in states], 1, counts), mirror)
    return table


def request(**more: Any) -> RequestSpec:
    flavor = Flavor("1", "m1.tiny", 1, 512, 1, extra_specs=more.pop("extra_specs", {}))
    resources = more.pop("resources", {"VCPU": 1, "MEMORY_MB": 512})
    return RequestSpec("server-1", more.pop("project_id", "project"), "user", flavor, resources, **more)
