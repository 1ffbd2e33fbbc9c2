"""One resource class over all providers, as numpy columns: a question about ten thousand providers is one pass."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kilonova.placement.contract import Inventory

Mask = NDArray[np.bool_]
Integers = NDArray[np.int64]

_AMOUNTS_KEPT: Final = 256  # of a class: flavors are few


def grown(array: NDArray[Any], size: int) -> NDArray[Any]:
    """`array` with room for `size`, new places zero."""
    made: NDArray[Any] = np.zeros(size, dtype=array.dtype)
    made[: len(array)] = array
    return made


class Column:
    """Capacity and use of one class by slot; zero capacity and `has` False where a provider has none."""

    __slots__ = ("_limits", "capacity", "has", "max_unit", "min_unit", "step_size", "used")

    def __init__(self, size: int) -> None:
        self.has: Mask = np.zeros(size, dtype=np.bool_)
        self.capacity: Integers = np.zeros(size, dtype=np.int64)
        self.used: Integers = np.zeros(size, dtype=np.int64)
        self.min_unit: Integers = np.ones(size, dtype=np.int64)
        self.max_unit: Integers = np.zeros(size, dtype=np.int64)
        self.step_size: Integers = np.ones(size, dtype=np.int64)
        self._limits: dict[int, Integers] = {}

    def grow(self, size: int) -> None:
        """Room for `size` slots."""
        self._limits.clear()
        for name in ("capacity", "has", "max_unit", "min_unit", "step_size", "used"):
            setattr(self, name, grown(getattr(self, name), size))

    def put(self, slot: int, book: Inventory, used: int) -> None:
        """The inventory at `slot`."""
        self._limits.clear()
        self.has[slot] = True
        self.capacity[slot] = capacity_of(book)
        self.used[slot] = used
        self.min_unit[slot] = book.min_unit
        self.max_unit[slot] = book.max_unit
        self.step_size[slot] = book.step_size

    def clear(self, slot: int) -> None:
        """No inventory at `slot`."""
        self._limits.clear()
        self.has[slot] = False
        self.capacity[slot] = self.used[slot] = 0

    def room(self, amount: int, size: int) -> Mask:
        """Which of the first `size` slots can give `amount` in one piece now."""
        fits: Mask = self.used[:size] <= self._limit(amount)[:size]
        return fits

    def _limit(self, amount: int) -> Integers:
        """How much may be used where one more `amount` is still to be given; below zero where it never is."""
        known = self._limits.get(amount)
        if known is None:
            gives = self.has & (self.min_unit <= amount) & (self.max_unit >= amount)
            gives &= amount % np.maximum(self.step_size, 1) == 0
            known = np.where(gives, self.capacity - amount, -1)
            if len(self._limits) >= _AMOUNTS_KEPT:
                self._limits.clear()
            self._limits[amount] = known
        return known

    def free(self, size: int) -> Integers:
        """What is left of each of the first `size` slots; negative where too much is used."""
        left: Integers = self.capacity[:size] - self.used[:size]
        return left


def capacity_of(book: Inventory) -> int:
    """What may be used in all: (total - reserved) × allocation_ratio, rounded down."""
    return int((book.total - book.reserved) * book.allocation_ratio)
