"""Shapes: what a decision need not ask again for the next request of the same kind, while hosts stay as they are.

Most requests that come together are alike: servers of one flavor and image. What filters say of hosts by what they are
(service, zone, kind, aggregates) and the columns of weighers that look at nothing else are the same for all of them;
what is free is asked each time.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from kilonova.compute.contract import RequestSpec
from kilonova.compute.scheduler.filters import Filter
from kilonova.compute.scheduler.room import Needs, is_spread, needs_of
from kilonova.compute.scheduler.rules import Rules
from kilonova.compute.scheduler.table import HostTable, Numbers
from kilonova.compute.scheduler.weighers import Weigher
from kilonova.placement.mirror.columns import Mask

_MOST: Final = 64


class Shape:
    """One kind of request among these hosts."""

    def __init__(self, rules: Rules, table: HostTable, spec: RequestSpec) -> None:
        self.needs: Needs = needs_of(spec, rules.settings)
        self.spread = is_spread(table.mirror, self.needs)
        self.asking = [one for one in rules.filters if one.asks(spec)]
        self._masks: dict[str, Mask | None] = {}
        self._columns: dict[str, Numbers | None] = {}

    def left(self, one: Filter, table: HostTable, spec: RequestSpec, mask: Mask) -> Mask:
        """The hosts of the mask that the filter lets stay; the mask itself when it refuses none at all."""
        if one.leaves is not None:
            found = self._leaves(one, table, spec)
            return mask if found is None else mask & found
        left = mask.copy()
        for row in np.flatnonzero(mask).tolist():
            if one.refuses(table.state(row), spec):
                left[row] = False
        return left

    def _leaves(self, one: Filter, table: HostTable, spec: RequestSpec) -> Mask | None:
        assert one.leaves is not None
        if not one.lasting:
            return one.leaves(table, spec)
        if one.name not in self._masks:
            self._masks[one.name] = one.leaves(table, spec)
        return self._masks[one.name]

    def column(self, one: Weigher, table: HostTable, spec: RequestSpec) -> Numbers | None:
        """What the weigher says of all hosts; None: the same of all."""
        assert one.column is not None
        if not one.lasting:
            return one.column(table, spec)
        if one.name not in self._columns:
            found = one.column(table, spec)
            alike = found is None or not len(found) or bool((found == found[0]).all())
            self._columns[one.name] = None if alike else found
        return self._columns[one.name]


class Shapes:
    """The shapes that were met since the hosts last changed."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._at: tuple[int, int] = (-1, -1)
        self._known: dict[bytes, Shape] = {}

    def of(self, table: HostTable, spec: RequestSpec) -> Shape:
        """The request's shape, made at its first sight."""
        at = (table.view_version, table.mirror.structure)
        if at != self._at or len(self._known) >= _MOST:
            self._at = at
            self._known.clear()
        key = msgspec.msgpack.encode((
            spec.flavor, spec.resources, spec.image_properties, spec.image_id, spec.project_id, spec.availability_zone,
            spec.requested_host, spec.ignore_hosts, spec.scheduler_hints, spec.group, spec.near))  # fmt: skip
        shape = self._known.get(key)
        if shape is None:
            shape = self._known[key] = Shape(self._rules, table, spec)
        return shape
