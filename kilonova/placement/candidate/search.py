"""The search for candidates on a mirror. Trees with one provider that can serve are answered by masks, all at once;

the others one by one: each group picks its providers in turn, and a choice that cannot work is dropped at once.
Candidates come in turn from each tree, so that a limit leaves out no tree before it leaves out second choices.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice, product
from typing import Final

import numpy as np

from kilonova.placement.candidate.eligible import Eligible
from kilonova.placement.candidate.wanted import Asked, Candidate, Found
from kilonova.placement.mirror.books import Mirror
from kilonova.placement.mirror.columns import Mask

MAXIMUM: Final = 100_000  # candidates of one answer: a tree of many equal devices has more ways than anyone can use

Given = tuple[tuple[int, str, int], ...]  # (slot, resource class, amount)
Taken = dict[tuple[int, str], int]


def search(mirror: Mirror, asked: Asked) -> Found:
    """All ways to serve `asked` on the mirror's state, at most `asked.limit`."""
    eligible = [Eligible(mirror, suffix, group) for suffix, group in asked.groups.items()]
    anchors = _anchors(mirror, asked)
    for one in eligible:
        anchors &= one.roots()
    limit = min(asked.limit or MAXIMUM, MAXIMUM)
    alone: list[int] = []
    if len(eligible) == 1:
        alone, anchors = _alone(mirror, eligible[0], anchors)
        alone = alone[:limit]
    if len(alone) == limit or not anchors.any():
        return Found(alone, [])
    trees = (_Tree(mirror, asked, eligible, int(root)).candidates() for root in np.flatnonzero(anchors))
    found: Iterable[Candidate] = _in_turn(trees)
    if not asked.nested:
        found = (one for one in found if _one_for_each_tree(mirror, one))
    if mirror.sharing:
        told = (_of_one(asked, slot) for slot in mirror.sharing.intersection(alone))
        found = _distinct(found, told)
    return Found(alone, list(islice(found, limit - len(alone))))


def _anchors(mirror: Mirror, asked: Asked) -> Mask:
    """Roots with the traits that roots must have."""
    slots = np.arange(mirror.size)
    found: Mask = mirror.alive() & (mirror.roots == slots) & ~mirror.having_any(asked.root_forbidden)
    for trait in asked.root_required:
        found &= mirror.having(trait)
    return found


def _alone(mirror: Mirror, one: Eligible, anchors: Mask) -> tuple[list[int], Mask]:
    """(slots that alone serve the only group, in trees where nobody else can help; the anchors that are left)."""
    able = np.ones(mirror.size, dtype=np.bool_)
    useful = mirror.nothing()
    for mask in one.by_part.values():
        able &= mask
        useful |= mask
    simple = anchors.copy()
    if one.suffix:
        pass  # one provider serves it all anyway
    else:
        simple &= np.bincount(mirror.roots[useful], minlength=mirror.size) == 1
        for traits in one.group.required:
            able &= mirror.having_any(traits)
    simple[list(one.shared_roots())] = False
    return np.flatnonzero(able & simple[mirror.roots]).tolist(), anchors & ~simple


class _Tree:
    """All ways to serve a search with the providers of one tree and those that share with it."""

    def __init__(self, mirror: Mirror, asked: Asked, eligible: list[Eligible], root: int) -> None:
        self._mirror = mirror
        self._asked = asked
        self._eligible = eligible
        self._root = root
        self._taken: Taken = {}
        self._chosen: dict[str, tuple[int, ...]] = {}

    def candidates(self) -> Iterator[Candidate]:
        """One after the other."""
        options = [list(islice(self._options(one), MAXIMUM)) for one in self._eligible]
        return self._choose(options, 0)

    def _options(self, one: Eligible) -> Iterator[Given]:
        """What the group may take, and of whom."""
        group = one.group
        if one.suffix:
            for slot in one.at(self._root, ""):
                yield tuple((slot, name, amount) for name, amount in group.resources.items()) or ((slot, "", 0),)
            return
        for slots in product(*(one.at(self._root, name) for name in group.resources)):
            if all(self._has_one(slots, traits) for traits in group.required):
                yield tuple(
                    (slot, name, amount) for slot, (name, amount) in zip(slots, group.resources.items(), strict=True)
                )

    def _has_one(self, slots: Iterable[int], traits: frozenset[str]) -> bool:
        return any(not traits.isdisjoint(self._mirror.at(slot).traits) for slot in slots)

    def _choose(self, options: list[list[Given]], number: int) -> Iterator[Candidate]:
        if number == len(options):
            if all(self._below_one(suffixes) for suffixes in self._asked.same_subtree):
                yield self._made()
            return
        suffix = self._eligible[number].suffix
        for given in options[number]:
            if suffix and self._asked.isolate and self._is_used(given[0][0]):
                continue
            if self._take(given):
                self._chosen[suffix] = tuple(dict.fromkeys(slot for slot, _, _ in given))
                yield from self._choose(options, number + 1)
                del self._chosen[suffix]
            for slot, name, amount in given:
                self._taken[slot, name] -= amount

    def _is_used(self, slot: int) -> bool:
        return any(suffix and slots[0] == slot for suffix, slots in self._chosen.items())

    def _take(self, given: Given) -> bool:
        """Add to what is taken; whether there is room for all groups together."""
        fits = True
        for slot, name, amount in given:
            total = self._taken[slot, name] = self._taken.get((slot, name), 0) + amount
            if name and total != amount:
                column = self._mirror.columns[name]
                fits &= bool(column.used[slot] + total <= column.capacity[slot] and total <= column.max_unit[slot])
        return fits

    def _below_one(self, suffixes: frozenset[str]) -> bool:
        slots = {slot for suffix in suffixes for slot in self._chosen[suffix]}
        lines = [set(self._mirror.line_of(slot)) for slot in slots]
        return any(all(top in line for line in lines) for top in slots)

    def _made(self) -> Candidate:
        allocations: dict[int, dict[str, int]] = {}
        for (slot, name), amount in self._taken.items():
            if amount:
                allocations.setdefault(slot, {})[name] = amount
        return Candidate(allocations, dict(self._chosen))


def _in_turn(trees: Iterable[Iterator[Candidate]]) -> Iterator[Candidate]:
    """One of each tree, then a second of each that has one, and so on."""
    waiting: list[Iterator[Candidate]] = []
    for tree in trees:
        for first in islice(tree, 1):
            yield first
            waiting.append(tree)
    while waiting:
        still = []
        for tree in waiting:
            for following in islice(tree, 1):
                yield following
                still.append(tree)
        waiting = still


def _one_for_each_tree(mirror: Mirror, candidate: Candidate) -> bool:
    return len({mirror.root_of(slot) for slot in candidate.allocations}) == len(candidate.allocations)


def _of_one(asked: Asked, slot: int) -> Candidate:
    """The way in which one provider serves the only group."""
    (suffix, group), *_ = asked.groups.items()
    return Candidate({slot: group.resources}, {suffix: (slot,)})


def _distinct(candidates: Iterable[Candidate], told: Iterable[Candidate]) -> Iterator[Candidate]:
    """Without repeats: several trees may be served by the same sharing providers alone."""
    seen = {_key(one) for one in told}
    for one in candidates:
        key = _key(one)
        if key not in seen:
            seen.add(key)
            yield one


def _key(one: Candidate) -> tuple[frozenset[tuple[int, str, int]], tuple[tuple[str, tuple[int, ...]], ...]]:
    amounts = frozenset(
        (slot, name, amount) for slot, given in one.allocations.items() for name, amount in given.items()
    )
    return amounts, tuple(sorted(one.mappings.items()))
