"""Snapshot: hosts and placement's books as they are now, with what is promised to requests of the same batch."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager

import msgspec

from kilonova.compute.contract import Destination, Flavor, Rejection, RequestSpec
from kilonova.compute.scheduler.decide import Decision, decide, fits_somewhere, lacking, rejections
from kilonova.compute.scheduler.explain import Shortage, smaller
from kilonova.compute.scheduler.resources import resources_of
from kilonova.compute.scheduler.rules import Rules
from kilonova.compute.scheduler.shapes import Shapes
from kilonova.compute.scheduler.state import HostsView
from kilonova.compute.scheduler.table import HostTable
from kilonova.placement.contract import Changes
from kilonova.placement.mirror.keeper import Keeper


class Try(msgspec.Struct, frozen=True):
    """One decision with all that is said of it. When there is no host, `rejections` say why host by host,
    `emptied_by` which filter leaves nobody, and `shortage` what is free on hosts that lack nothing but room."""

    destinations: list[Destination]
    counts: list[tuple[str, int]]
    best: list[tuple[str, float]]
    snapshot: int
    hosts: int
    rejections: list[Rejection]
    shortage: Shortage | None
    emptied_by: str


class Snapshot:
    """The scheduler's table on its own mirror of placement's books."""

    def __init__(self, rules: Rules, changes: Callable[[str], Awaitable[Changes]]) -> None:
        self._rules = rules
        self._keeper = Keeper(changes)
        self.table = HostTable()
        self._shapes = Shapes(rules)
        self._taken: list[tuple[str, int, int]] = []  # (class, slot, amount) promised within `pending`

    @property
    def number(self) -> int:
        """Counts the changes of the books that were taken in."""
        return self.table.mirror.snapshot

    async def follow(self, view: HostsView, *, afresh: bool) -> None:
        """All that was committed before this call is in; of the books only when they are read `afresh`."""
        self.table.follow(view, await (self._keeper.current() if afresh else self._keeper.known()))

    @property
    def position(self) -> str:
        """How far the books are known."""
        return self.table.mirror.position

    async def learn(self, since: str, changes: Changes) -> None:
        """What happened to the books since that position."""
        await self._keeper.take(since, changes)

    @contextmanager
    def pending(self) -> Iterator[None]:
        """What is taken within counts as used until the end. Nothing may follow the books meanwhile."""
        try:
            yield
        finally:
            for name, slot, amount in self._taken:
                self.table.mirror.columns[name].used[slot] -= amount
            self._taken.clear()

    def take(self, tried: Try, spec: RequestSpec) -> None:
        """The first destination's room is promised."""
        mirror = self.table.mirror
        for provider_id, given in tried.destinations[0].held.items():
            slot = mirror.slots[provider_id]
            for name, amount in given.items():
                mirror.columns[name].used[slot] += amount
                self._taken.append((name, slot, amount))

    def placed(self, tried: Try) -> None:
        """The claim stands: one more server is being built there."""
        row = self.table.rows.get(tried.destinations[0].host)
        if row is not None:
            self.table.placed(row)

    def decide(self, spec: RequestSpec, dice: random.Random) -> Try:
        """Where the server may go, or why nowhere."""
        table = self.table
        made: Decision = decide(self._rules, table, spec, dice, self._shapes.of(table, spec))
        refused = [] if made.order else rejections(self._rules, table, spec, made)
        short, emptied_by = (None, "") if made.order else lacking(self._rules, table, spec)
        return Try(
            made.destinations(table, spec, max(1, self._rules.settings.max_attempts)),
            made.counts,
            [(table.states[row].host, weight) for row, weight in made.order[:10]],
            made.snapshot,
            len(table),
            refused,
            short,
            emptied_by,
        )

    def nearest_fit(self, spec: RequestSpec, flavors: Iterable[Flavor]) -> str:
        """The name of the largest smaller flavor that a host would take now in the request's place, or ""."""
        for flavor in smaller(spec, flavors):
            wanted = resources_of(flavor, spec.image_properties, from_volume=not spec.image_id)
            if fits_somewhere(self._rules, self.table, msgspec.structs.replace(spec, flavor=flavor, resources=wanted)):
                return flavor.name
        return ""
