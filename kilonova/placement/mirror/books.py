"""Mirror: placement's books in memory, for questions about all providers at once. Fed by `contract.Changes`.

    mirror = Mirror()
    mirror.apply(await placement.changes(mirror.position))   # before each decision: cheap when nothing happened
    fits = mirror.room("VCPU", 4) & mirror.room("MEMORY_MB", 8192) & mirror.having("COMPUTE_NODE")
    names = [mirror.books[slot].name for slot in numpy.flatnonzero(fits)]

A provider keeps its slot for as long as it lives; masks and columns are by slot. A mirror is a snapshot: it may be old
by the time a decision is made on it, so the claim in placement decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
import numpy as np

from kilonova.placement.contract import Changes, ProviderBooks, Used
from kilonova.placement.mirror.columns import Column, Mask, grown

SHARES: Final = "MISC_SHARES_VIA_AGGREGATE"
_FIRST_SIZE: Final = 64
NOBODY: Final = -1


class Mirror:
    """Providers by slot. Not safe to change while another thread reads it."""

    def __init__(self) -> None:
        self.position = ""
        self.snapshot = 0  # raised by each change: decisions can say on which state they were made
        self.structure = 0  # raised when providers came, went or changed, not when something was used
        self._reset(0)

    def _reset(self, wanted: int) -> None:
        size = max(_FIRST_SIZE, wanted)
        self.size = 0  # slots in use are below it
        self.books: list[ProviderBooks | None] = []
        self.slots: dict[str, int] = {}
        self.columns: dict[str, Column] = {}
        self.members: dict[int, list[int]] = {}  # root's slot → slots of its tree
        self.sharing: set[int] = set()
        self.shown: dict[int, bytes] = {}  # how each shows in an answer, kept by those who make answers
        self._free: list[int] = []
        self._traits: dict[str, Mask] = {}
        self._aggregates: dict[str, set[int]] = {}
        self._alive: Mask = np.zeros(size, dtype=np.bool_)
        self._parents = np.full(size, NOBODY, dtype=np.int64)
        self._roots = np.zeros(size, dtype=np.int64)

    # ── questions

    def room(self, resource_class: str, amount: int) -> Mask:
        """Which slots can give `amount` of the class in one piece."""
        column = self.columns.get(resource_class)
        return self.nothing() if column is None else column.room(amount, self.size)

    def having(self, trait: str) -> Mask:
        """Which slots have the trait."""
        mask = self._traits.get(trait)
        return self.nothing() if mask is None else mask[: self.size]

    def having_any(self, traits: Iterable[str]) -> Mask:
        """Which slots have one of the traits."""
        found = self.nothing()
        for trait in traits:
            found |= self.having(trait)
        return found

    def in_any(self, aggregates: Iterable[str]) -> Mask:
        """Which slots are themselves in one of the aggregates."""
        found = self.nothing()
        for aggregate in aggregates:
            if among := self._aggregates.get(aggregate):
                found[list(among)] = True
        return found

    def nothing(self) -> Mask:
        """A mask without any slot, to be changed at will."""
        return np.zeros(self.size, dtype=np.bool_)

    def alive(self) -> Mask:
        """Slots that hold a provider. A view: copy before changing it."""
        return self._alive[: self.size]

    @property
    def roots(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """The slot of each slot's root. A view."""
        return self._roots[: self.size]

    def at(self, slot: int) -> ProviderBooks:
        """The provider at a slot in use."""
        found = self.books[slot]
        assert found is not None, f"slot {slot} is empty"
        return found

    def root_of(self, slot: int) -> int:
        """The slot of the root of its tree."""
        return int(self._roots[slot])

    def line_of(self, slot: int) -> list[int]:
        """The slot, its parent, and so on up to the root."""
        line = [slot]
        while (parent := int(self._parents[line[-1]])) != NOBODY:
            line.append(parent)
        return line

    def anchors_of(self, slot: int) -> set[int]:
        """Roots of all trees with which a sharing provider shares, by way of its aggregates."""
        found: set[int] = set()
        for aggregate in self.at(slot).aggregates:
            found.update(int(self._roots[member]) for member in self._aggregates[aggregate])
        return found

    # ── changes

    def apply(self, changes: Changes) -> bool:
        """Take changes in; whether there were any."""
        self.position = changes.position
        if not (changes.whole or changes.providers or changes.used or changes.gone):
            return False
        self.snapshot += 1
        self.structure += bool(changes.whole or changes.providers or changes.gone)
        if changes.whole:
            self._reset(len(changes.providers))
        for id_ in changes.gone:
            self._remove(id_)
        for books in changes.providers:
            self._place(books.id)
        for books in changes.providers:
            self._put(self.slots[books.id], books)
        for used in changes.used:
            self._use(used)
        return True

    def _use(self, latest: Used) -> None:
        slot = self.slots.get(latest.id)
        if slot is None:
            return
        books = self.at(slot)
        if latest.generation < books.generation:
            return
        for name, amount in latest.used.items():
            self.columns[name].used[slot] = amount
        self.books[slot] = msgspec.structs.replace(
            books, generation=latest.generation, used={**books.used, **latest.used}
        )
        self.shown.pop(slot, None)

    def _place(self, id_: str) -> None:
        if id_ in self.slots:
            return
        if self._free:
            slot = self._free.pop()
        else:
            slot = self.size
            self.size += 1
            self.books.append(None)
            if self.size > len(self._alive):
                self._grow(2 * self.size)
        self.slots[id_] = slot

    def _grow(self, size: int) -> None:
        self._alive, self._roots = grown(self._alive, size), grown(self._roots, size)
        before = len(self._parents)
        self._parents = grown(self._parents, size)
        self._parents[before:] = NOBODY
        for column in self.columns.values():
            column.grow(size)
        for trait, mask in self._traits.items():
            self._traits[trait] = grown(mask, size)

    def _put(self, slot: int, books: ProviderBooks) -> None:
        if self.books[slot] is not None:
            self._take_out(slot)
        self.books[slot] = books
        self._alive[slot] = True
        self._parents[slot] = NOBODY if books.parent_id is None else self.slots[books.parent_id]
        root = self.slots[books.root_id]
        self._roots[slot] = root
        self.members.setdefault(root, []).append(slot)
        room = len(self._alive)
        for name, book in books.inventories.items():
            if (column := self.columns.get(name)) is None:
                column = self.columns[name] = Column(room)
            column.put(slot, book, books.used.get(name, 0))
        for trait in books.traits:
            if (mask := self._traits.get(trait)) is None:
                mask = self._traits[trait] = np.zeros(room, dtype=np.bool_)
            mask[slot] = True
        for aggregate in books.aggregates:
            self._aggregates.setdefault(aggregate, set()).add(slot)
        if SHARES in books.traits:
            self.sharing.add(slot)

    def _take_out(self, slot: int) -> None:
        """Forget what hangs on the slot; the slot itself stays."""
        books = self.at(slot)
        self.books[slot] = None
        self._alive[slot] = False
        family = self.members[int(self._roots[slot])]
        family.remove(slot)
        if not family:
            del self.members[int(self._roots[slot])]
        for name in books.inventories:
            self.columns[name].clear(slot)
        for trait in books.traits:
            self._traits[trait][slot] = False
        for aggregate in books.aggregates:
            self._aggregates[aggregate].discard(slot)
            if not self._aggregates[aggregate]:
                del self._aggregates[aggregate]
        self.sharing.discard(slot)
        self.shown.pop(slot, None)

    def _remove(self, id_: str) -> None:
        if (slot := self.slots.pop(id_, None)) is None:
            return
        self._take_out(slot)
        self._parents[slot] = NOBODY
        self._free.append(slot)
