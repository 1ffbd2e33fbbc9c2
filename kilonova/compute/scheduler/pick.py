"""Pick: hosts with room in, hosts in order of preference out. Pure, but for the dice it is handed."""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec

from kilonova.compute.contract import RequestSpec
from kilonova.compute.scheduler import filters, weighers
from kilonova.compute.scheduler.state import Candidate


class SchedulerSettings(msgspec.Struct, frozen=True):
    """How hosts are chosen; operators set these."""

    filters: tuple[str, ...] = filters.DEFAULT_FILTERS
    weights: dict[str, float] = {}  # weigher → multiplier, over the defaults
    host_subset_size: int = 1  # the first is drawn among this many best; more: fewer lost claims
    alternates: int = 2
    claim_attempts: int = 8  # hosts tried before candidates are asked for again
    rounds: int = 3  # times that candidates are asked for


class Rules(msgspec.Struct, frozen=True):
    """Settings, looked up once."""

    filters: tuple[filters.Filter, ...]
    multipliers: dict[str, float]
    host_subset_size: int

    @classmethod
    def of(cls, settings: SchedulerSettings) -> Rules:
        """INVALID, naming it, when a filter or weigher does not exist."""
        return cls(
            filters.chosen_filters(settings.filters),
            weighers.checked(settings.weights),
            max(1, settings.host_subset_size),
        )


def pick(
    rules: Rules, candidates: Sequence[Candidate], spec: RequestSpec, dice: random.Random
) -> tuple[list[Candidate], filters.Filtered]:
    """(hosts that may take the server, best first; what the filters did). Equal hosts come in random order."""
    filtered = filters.run(rules.filters, candidates, spec)
    weighed = weighers.weights(filtered.left, rules.multipliers, spec)
    order = sorted(range(len(weighed)), key=lambda index: (-weighed[index], dice.random()))
    if rules.host_subset_size > 1 and len(order) > 1:
        first = order.pop(dice.randrange(min(rules.host_subset_size, len(order))))
        order.insert(0, first)
    return [filtered.left[index] for index in order], filtered
