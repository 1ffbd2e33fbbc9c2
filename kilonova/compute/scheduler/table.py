"""Hosts as numpy columns beside placement's mirror: a question about all hosts is one pass, whatever they hold.

A filter that looks only at what many hosts have alike (a zone, the aggregates, the kind of machine) is asked once for
each different answer that there can be, and the verdicts are spread over the hosts.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from kilonova.compute.contract import RequestSpec
from kilonova.compute.scheduler.state import HostState, HostsView
from kilonova.placement.mirror.books import Mirror
from kilonova.placement.mirror.columns import Mask

Integers = NDArray[np.int64]
Numbers = NDArray[np.float64]
NOWHERE: Final = -1


class HostTable:
    """Hosts by row, in the order of the view it was made of."""

    def __init__(self) -> None:
        self.view_version = self.counts_version = -1
        self.states: Sequence[HostState] = ()
        self.rows: dict[str, int] = {}
        self._providers: dict[str, int] = {}
        self._alike: dict[str, tuple[list[HostState], Integers]] = {}
        self.slots: Integers = np.zeros(0, dtype=np.int64)
        self._strange: Mask = np.zeros(0, dtype=np.bool_)  # hosts that placement does not know
        self._any_strange = False
        self._straight = False  # rows are slots: nothing must be picked
        self.servers: Integers = self.slots
        self.building: Integers = self.slots
        self._known_slots: tuple[int, int] = (-1, -1)
        self.mirror = Mirror()

    # ── upkeep

    def follow(self, view: HostsView, mirror: Mirror) -> None:
        """Takes in what is new; cheap when nothing is."""
        if view.version != self.view_version:
            self._make(view)
        if view.counts_version != self.counts_version:
            self._count(view)
        shape = (self.view_version, mirror.structure)
        if mirror is not self.mirror or shape != self._known_slots:
            self.mirror, self._known_slots = mirror, shape
            slots = [mirror.slots.get(state.provider_id, NOWHERE) for state in self.states]
            self.slots = np.array(slots, dtype=np.int64)
            self._strange = self.slots < 0
            self._any_strange = bool(self._strange.any())
            self._straight = len(self.slots) == mirror.size and bool((self.slots == np.arange(mirror.size)).all())

    def _make(self, view: HostsView) -> None:
        self.view_version, self.counts_version = view.version, -1
        self.states = view.states
        self.rows = {state.host: row for row, state in enumerate(view.states)}
        self._providers = {state.provider_id: row for row, state in enumerate(view.states)}
        self._alike = {}

    def _count(self, view: HostsView) -> None:
        self.counts_version = view.counts_version
        found = [view.counts.get(state.host, (0, 0)) for state in self.states]
        self.servers = np.array([one for one, _ in found], dtype=np.int64)
        self.building = np.array([busy for _, busy in found], dtype=np.int64)

    def placed(self, row: int) -> None:
        """One more server is being built there, before the view says so."""
        self.servers[row] += 1
        self.building[row] += 1

    # ── questions

    def __len__(self) -> int:
        return len(self.states)

    def all(self) -> Mask:
        """A mask of every host, to be changed at will."""
        return np.ones(len(self.states), dtype=np.bool_)

    def by_slot(self, mask: Mask) -> Mask:
        """A mask of providers as one of hosts; hosts that placement does not know are out."""
        if not len(mask):
            return np.zeros(len(self.states), dtype=np.bool_)
        found: Mask = mask if self._straight else mask[self.slots]
        if self._any_strange:
            found &= ~self._strange
        return found

    def row_of(self, provider_id: str) -> int | None:
        """The row of the host with that provider."""
        return self._providers.get(provider_id)

    def free(self, resource_class: str) -> Numbers:
        """What is left of a class on each host; 0 where there is none."""
        column = self.mirror.columns.get(resource_class)
        if column is None:
            return np.zeros(len(self.states))
        free = column.free(self.mirror.size)
        left = (free if self._straight else free[self.slots]).astype(np.float64)
        if self._any_strange:
            left[self._strange] = 0
        return left

    def counted(self, column: Integers) -> Numbers:
        """A column of counts as weighers want it."""
        return column.astype(np.float64)

    def only(self, hosts: Iterable[str]) -> Mask:
        """Those hosts and no others."""
        mask = np.zeros(len(self.states), dtype=np.bool_)
        mask[[self.rows[host] for host in hosts if host in self.rows]] = True
        return mask

    def without(self, hosts: Iterable[str]) -> Mask:
        """All but those hosts."""
        return ~self.only(hosts)

    def numbers(self, of: dict[str, int]) -> Numbers:
        """A number for some hosts, 0 for the others."""
        found = np.zeros(len(self.states))
        for host, number in of.items():
            if host in self.rows:
                found[self.rows[host]] = number
        return found

    def each(self, name: str, key: Callable[[HostState], Hashable], worth: Callable[[HostState], float]) -> Numbers:
        """A number per host, asked once for all that have the same key. `name` names the key."""
        alike, codes = self._groups(name, key)
        return np.array([worth(state) for state in alike], dtype=np.float64)[codes]

    def told(self, worth: Callable[[HostState], float]) -> Numbers:
        """A number per host of what it told last."""
        return np.fromiter(map(worth, self.states), dtype=np.float64, count=len(self.states))

    def verdicts(
        self,
        name: str,
        key: Callable[[HostState], Hashable],
        refuses: Callable[[HostState, RequestSpec], str],
        spec: RequestSpec,
    ) -> Mask | None:
        """Who is not refused, asked once for all that have the same key; None: nobody is."""
        alike, codes = self._groups(name, key)
        told = [not refuses(state, spec) for state in alike]
        if all(told):
            return None
        mask: Mask = np.array(told, dtype=np.bool_)[codes]
        return mask

    def _groups(self, name: str, key: Callable[[HostState], Hashable]) -> tuple[list[HostState], Integers]:
        if (known := self._alike.get(name)) is None:
            numbers: dict[Hashable, int] = {}
            alike: list[HostState] = []
            codes = np.zeros(len(self.states), dtype=np.int64)
            for row, state in enumerate(self.states):
                code = numbers.setdefault(key(state), len(alike))
                if code == len(alike):
                    alike.append(state)
                codes[row] = code
            known = self._alike[name] = (alike, codes)
        return known

    def state(self, row: int) -> HostState:
        """The host as filters see it one by one, with what its books say now."""
        slot = int(self.slots[row])
        state = self.states[row]
        servers, building = int(self.servers[row]), int(self.building[row])
        if slot == NOWHERE:
            return msgspec.structs.replace(state, servers=servers, building=building)
        mirror = self.mirror
        books = mirror.at(slot)
        columns = {name: mirror.columns[name] for name in books.inventories}
        return msgspec.structs.replace(
            state,
            servers=servers,
            building=building,
            traits=books.traits,
            capacity={name: int(column.capacity[slot]) for name, column in columns.items()},
            used={name: int(column.used[slot]) for name, column in columns.items()},
            ratios={name: book.allocation_ratio for name, book in books.inventories.items()},
        )
