"""Decide: one request, all hosts, on one snapshot. Pure, but for the dice it is handed; nothing here waits."""

from __future__ import annotations

import random
from typing import Final

import msgspec
import numpy as np

from kilonova.compute.contract import Destination, Rejection, RequestSpec
from kilonova.compute.scheduler.explain import Shortage, room_words, short_of
from kilonova.compute.scheduler.room import Allocations, with_room
from kilonova.compute.scheduler.rules import Rules
from kilonova.compute.scheduler.shapes import Shape
from kilonova.compute.scheduler.table import HostTable, Integers, Numbers
from kilonova.placement.mirror.columns import Mask

ROOM: Final = "Placement"
_BEST_SHOWN: Final = 10
_REASONS_KEPT: Final = 1000  # hosts that are explained one by one


class Decision(msgspec.Struct, frozen=True):
    """Hosts in order of preference (as many as may be needed), and how many were left after each filter."""

    order: list[tuple[int, float]]  # (row, weight)
    counts: list[tuple[str, int]]
    masks: list[tuple[str, Mask]]  # who was left after each, kept for reasons
    snapshot: int
    allocations: dict[int, Allocations]  # row → what it would give, when that comes from several providers

    def destinations(self, table: HostTable, spec: RequestSpec, most: int) -> list[Destination]:
        """The first hosts, with what each would give."""
        found = []
        for row, _ in self.order[:most]:
            state = table.states[row]
            given = self.allocations.get(row, {})
            found.append(Destination(state.host, state.node, state.provider_id, spec.resources, given))
        return found


def decide(
    rules: Rules, table: HostTable, spec: RequestSpec, dice: random.Random, shape: Shape | None = None
) -> Decision:
    """Filters in their order, then weights. Equal hosts come in random order. `shape`: known of such requests."""
    shape = shape or Shape(rules, table, spec)
    room = with_room(table, shape.needs, spread=shape.spread)
    mask = room.mask
    counts, masks = [(ROOM, int(np.count_nonzero(mask)))], [(ROOM, mask)]
    for one in shape.asking:
        if not counts[-1][1]:
            break
        left = shape.left(one, table, spec, mask)
        if left is not mask:
            masks.append((one.name, left))
            mask = left
            counts.append((one.name, int(np.count_nonzero(mask))))
        else:
            counts.append((one.name, counts[-1][1]))
    rows: Integers = np.flatnonzero(mask)
    weights = _weights((rules, shape), table, spec, rows)
    order = _best(rows, weights, rules, dice)
    return Decision(order, counts, masks, table.mirror.snapshot, room.allocations)


def _weights(by: tuple[Rules, Shape], table: HostTable, spec: RequestSpec, rows: Integers) -> Numbers:
    total = np.zeros(len(rows))
    if len(rows) < 2:
        return total
    rules, shape = by
    everybody = len(rows) == len(table)
    floor = 0.0  # what the lowest of each add up to: taken off once, not from every column
    stretched = np.empty(len(rows))
    for one, multiplier in rules.weighers:
        if one.column is not None:
            column = shape.column(one, table, spec)
            if column is None:
                continue
            raw = column if everybody else column[rows]
        else:
            raw = np.array([one.weigh(table.state(row), spec) for row in rows.tolist()], dtype=np.float64)
        lowest, highest = float(np.minimum.reduce(raw)), float(np.maximum.reduce(raw))
        if highest > lowest:
            stretch = multiplier / (highest - lowest)
            total += np.multiply(raw, stretch, out=stretched)
            floor += lowest * stretch
    total -= floor
    return total


def _best(rows: Integers, weights: Numbers, rules: Rules, dice: random.Random) -> list[tuple[int, float]]:
    """The best (row, weight), first the one to take: as many as alternates and lists for reasons need."""
    size = len(rows)
    wanted = max(_BEST_SHOWN, rules.settings.max_attempts, rules.settings.host_subset_size)
    if size > wanted:
        turn = dice.randrange(size)  # among equal ones chance decides, not the order of the table
        turned = np.concatenate((weights[turn:], weights[:turn]))
        places = (turned.argpartition(size - wanted)[size - wanted :] + turn) % size
        rows, weights = rows[places], weights[places]
    found = [(weight, dice.random(), row) for weight, row in zip(weights.tolist(), rows.tolist(), strict=True)]
    order = [(row, weight) for weight, _, row in sorted(found, reverse=True)]
    if rules.settings.host_subset_size > 1 and len(order) > 1:
        first = order.pop(dice.randrange(min(rules.settings.host_subset_size, len(order))))
        order.insert(0, first)
    return order


# ── what is said of it


def rejections(rules: Rules, table: HostTable, spec: RequestSpec, decision: Decision) -> list[Rejection]:
    """Why each host was not among the last: by the filter that dropped it, with the numbers."""
    found: list[Rejection] = []
    by_name = {one.name: one for one in rules.filters}
    before = table.all()
    for name, left in decision.masks:
        for row in np.flatnonzero(before & ~left).tolist():
            if len(found) >= _REASONS_KEPT:
                return found
            state = table.state(row)
            if name in by_name:
                reason = by_name[name].refuses(state, spec) or "it changed meanwhile"
                found.append(Rejection(state.host, name, reason))
            else:
                short = short_of(state, spec)
                found.append(Rejection(state.host, name, room_words(short), short))
        before = left
    return found


def lacking(rules: Rules, table: HostTable, spec: RequestSpec) -> tuple[Shortage | None, str]:
    """What is missing: room, as (the most that is free on one of the hosts that all filters would let stay, ROOM);
    or else (None, the filter that leaves no host however much room there is)."""
    willing, shape = table.all(), Shape(rules, table, spec)
    for one in shape.asking:
        willing = shape.left(one, table, spec, willing)
        if not willing.any():
            return None, one.name
    if not willing.any():  # no host at all
        return None, ROOM
    return Shortage({name: max(int(table.free(name)[willing].max()), 0) for name in spec.resources}), ROOM


def fits_somewhere(rules: Rules, table: HostTable, spec: RequestSpec) -> bool:
    """Whether a host would take it now."""
    shape = Shape(rules, table, spec)
    mask = with_room(table, shape.needs, spread=shape.spread).mask
    for one in shape.asking:
        if not mask.any():
            return False
        mask = shape.left(one, table, spec, mask)
    return bool(mask.any())
