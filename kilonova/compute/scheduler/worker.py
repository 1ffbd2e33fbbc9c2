"""The scheduler: serves select_destinations on the topic `scheduler`.

It decides on a view that may be old; the claim in placement decides for all. A lost race costs one try.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from kilonova.base.faults import Fault, Kind
from kilonova.base.world import World
from kilonova.bus import rpc
from kilonova.bus.contract import Bus, Subscription
from kilonova.compute.contract import EXCHANGE, SCHEDULER_TOPIC, Destination, Rejection, RequestSpec, Scheduler
from kilonova.compute.scheduler import explain, filters
from kilonova.compute.scheduler.filters import Filtered
from kilonova.compute.scheduler.pick import Rules, SchedulerSettings, pick
from kilonova.compute.scheduler.state import Candidate, Hosts, HostState
from kilonova.placement.contract import Placement, ProviderSummary
from kilonova.trace import spans

LOST_RACE: Final = "claim"


class SchedulerWorker:
    """Implements `contract.Scheduler`. `placement` speaks with the service's own token."""

    def __init__(
        self, world: World, placement: Placement, hosts: Hosts, settings: SchedulerSettings | None = None
    ) -> None:
        self._world = world
        self._placement = placement
        self._hosts = hosts
        self._settings = settings or SchedulerSettings()
        self._rules = Rules.of(self._settings)

    async def serve(self, bus: Bus, host: str) -> Subscription:
        """Take messages until closed."""
        return await bus.serve(EXCHANGE, SCHEDULER_TOPIC, host, rpc.handlers(Scheduler, self))

    async def select_destinations(self, spec: RequestSpec) -> list[Destination]:
        """The best host, claimed, then up to 2 alternates. NO_CAPACITY says why in `data["rejections"]`."""
        spans.about(spec.server_id)
        spec.resources = {name: amount for name, amount in spec.resources.items() if amount}
        required, forbidden = _traits(spec)
        lost: dict[str, Rejection] = {}
        for _ in range(self._settings.rounds):
            states = await self._hosts.states()
            if spec.scheduler_hints.get("group"):
                spec.group = await self._hosts.group_of(spec.server_id)
            offered = await self._with_room(spec.resources, required, forbidden)
            by_provider = {state.provider_id: state for state in states}
            fits = [Candidate(by_provider[p.id], p) for p in offered if p.id in by_provider]
            order, filtered = pick(self._rules, fits, spec, self._world.random)
            _note(len(states), len(fits), filtered)
            for place, chosen in enumerate(order[: self._settings.claim_attempts]):
                if await self._claim(chosen, spec):
                    last = place + 1 + self._settings.alternates
                    return [_destination(one, spec) for one in order[place:last]]
                lost[chosen.state.host] = Rejection(chosen.state.host, LOST_RACE, "another server took its room first")
            if not order:
                break
        raise await self._no_valid_host(spec, states, fits, [*filtered.rejections, *lost.values()])

    async def refusals(self, spec: RequestSpec) -> list[Rejection]:
        """What the filters say of the requested host alone."""
        spans.about(spec.server_id)
        here = [state for state in await self._hosts.states() if spec.requested_host in (state.host, state.node)]
        known = [Candidate(one, ProviderSummary(one.provider_id, one.node, 0, {}, {})) for one in here]
        return filters.run(self._rules.filters, known, spec).rejections

    async def _with_room(
        self, resources: dict[str, int], required: list[str], forbidden: list[str]
    ) -> tuple[ProviderSummary, ...]:
        """What placement offers. A class or trait that it never heard of is one that no host has."""
        try:
            return (await self._placement.candidates(resources, required, forbidden)).fits
        except Fault as fault:
            if fault.kind is Kind.INVALID:
                spans.note(f"placement refused: {fault.message}")
                return ()
            raise

    async def _claim(self, chosen: Candidate, spec: RequestSpec) -> bool:
        claimed = await self._placement.claim(
            spec.server_id, chosen.books.id, spec.resources, spec.project_id, spec.user_id
        )
        if claimed:
            spans.note(f"chose {chosen.state.host}", resource=spec.server_id)
        return claimed

    async def _no_valid_host(
        self, spec: RequestSpec, states: Sequence[HostState], fits: Sequence[Candidate], rejections: list[Rejection]
    ) -> Fault:
        """Look up what is free of each class, to say what is missing."""
        free: dict[str, dict[str, int]] = {}
        for name in spec.resources:
            having = await self._with_room({name: 1}, [], [])
            free[name] = {p.id: p.capacity.get(name, 0) - p.used.get(name, 0) for p in having}
        known = frozenset(candidate.books.id for candidate in fits)
        everything = [*explain.without_room(states, known, spec, free), *rejections]
        last_filter = rejections[-1].filter if rejections else ""
        spans.note(f"no valid host: {len(everything)} hosts rejected", resource=spec.server_id)
        return explain.no_valid_host(spec, everything, free, last_filter)


def _destination(candidate: Candidate, spec: RequestSpec) -> Destination:
    state = candidate.state
    return Destination(state.host, state.node, candidate.books.id, spec.resources)


def _traits(spec: RequestSpec) -> tuple[list[str], list[str]]:
    """(required, forbidden) traits that flavor and image ask for with `trait:NAME`."""
    asked = {**spec.image_properties, **spec.flavor.extra_specs}
    named = [(key.removeprefix("trait:"), value) for key, value in asked.items() if key.startswith("trait:")]
    required = sorted(name for name, value in named if value == "required")
    return required, sorted(name for name, value in named if value == "forbidden")


def _note(known: int, fits: int, filtered: Filtered) -> None:
    """What the trace shows: how many hosts were left after each filter; and why each rejected one was."""
    counts = ", ".join(f"{name} {left}" for name, left in filtered.counts)
    reasons = "; ".join(f"{one.host}: {one.filter}: {one.reason}" for one in filtered.rejections[:50])
    spans.note(f"{fits} of {known} hosts have room; left: {counts or 'none'}", rejections=reasons)
