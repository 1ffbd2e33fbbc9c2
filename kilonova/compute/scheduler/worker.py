"""The scheduler: serves select_destinations on the topic `scheduler`.

Requests that come together are decided together, one after the other on one snapshot, each seeing what those before it
are to get; their claims go to placement in one batch. The snapshot may be old: the claim decides for all schedulers,
and a server whose claim was lost is decided again on newer books, a bounded number of times.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from kilonova.base.faults import Fault, unavailable
from kilonova.base.world import World
from kilonova.bus import rpc
from kilonova.bus.contract import Bus, Subscription
from kilonova.compute.contract import (
    DRY_RUN_MOST,
    EXCHANGE,
    SCHEDULER_TOPIC,
    Destination,
    Fit,
    Flavor,
    GroupSpec,
    Rejection,
    RequestSpec,
    Scheduler,
)
from kilonova.compute.scheduler import explain
from kilonova.compute.scheduler.batches import Batches, Waiting
from kilonova.compute.scheduler.kept import Kept, Recorder
from kilonova.compute.scheduler.rules import Rules, SchedulerSettings
from kilonova.compute.scheduler.state import Hosts
from kilonova.placement.contract import ClaimRequest, ClaimResult, Placement
from kilonova.trace import spans

if TYPE_CHECKING:
    from kilonova.compute.scheduler.snapshot import Snapshot, Try

log = logging.getLogger(__name__)
_NOTED: Final = 50
_MANY_HOSTS: Final = 500
_CLAIM_SECONDS: Final = 2.0  # what a claim may take at most, and clocks may differ


class _Asked:
    """A request on its way to a host."""

    def __init__(self, spec: RequestSpec) -> None:
        self.spec = spec
        context = spans.current()
        self.request_id = context.request_id if context else ""
        self.deadline_at = rpc.deadline_at()
        self.lost: list[Rejection] = []
        self.tried: Try | None = None


_Answer = tuple["Try", list[Rejection], Fault | None]
_Wait = Waiting[_Asked, _Answer]


class SchedulerWorker:
    """Implements `contract.Scheduler`. `placement` speaks with the service's own token."""

    def __init__(
        self,
        world: World,
        placement: Placement,
        hosts: Hosts,
        settings: SchedulerSettings | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self._world = world
        self._placement = placement
        self._hosts = hosts
        self._settings = settings or SchedulerSettings()
        self._rules = Rules.of(self._settings)
        self._recorder = recorder
        self._snapshot: Snapshot | None = None
        self._settled = False
        self._subscription: Subscription | None = None
        self._keeping: set[asyncio.Task[None]] = set()
        self._batches: Batches[_Asked, _Answer] = Batches(self._serve, max(1, self._settings.batch))

    async def serve(self, bus: Bus, host: str) -> Subscription:
        """Take messages until closed."""
        self._subscription = await bus.serve(EXCHANGE, SCHEDULER_TOPIC, host, rpc.handlers(Scheduler, self))
        return self._subscription

    async def close(self) -> None:
        """Take no more messages; what was decided is kept."""
        if self._subscription is not None:
            await self._subscription.close()
        await asyncio.gather(*self._keeping)

    async def select_destinations(self, spec: RequestSpec) -> list[Destination]:
        """The best host, claimed, then alternates. NO_CAPACITY says why in `data["rejections"]`."""
        spans.about(spec.server_id)
        spec.resources = {name: amount for name, amount in spec.resources.items() if amount}
        made, lost, fault = await self._batches.ask(_Asked(spec))
        _note(made, lost)
        if fault is not None:
            spans.note(f"no valid host: {len(made.rejections)} hosts rejected", resource=spec.server_id)
            raise fault
        chosen = made.destinations[: max(1, self._settings.max_attempts)]
        spans.note(f"chose {chosen[0].host}", resource=spec.server_id)
        return chosen

    async def could_boot(self, spec: RequestSpec, count: int) -> Fit:
        """Where `count` such servers could go now, without claiming anything; what stops the first that could not."""
        spec.resources = {name: amount for name, amount in spec.resources.items() if amount}
        await self._hosts.complete([spec])
        flavors = await self._hosts.flavors(spec.project_id)
        snapshot = await self._current(afresh=True)
        with snapshot.pending():  # nothing is awaited in here: nobody else may follow the books meanwhile
            where: dict[str, int] = {}
            for number in range(max(0, min(count, DRY_RUN_MOST))):
                tried = snapshot.decide(spec, self._world.random)
                if not tried.destinations:
                    fault = self._refusal(snapshot, spec, (tried, []), flavors)
                    return Fit(number, where, fault.told, tried.rejections, tried.counts, tried.snapshot)
                snapshot.take(tried, spec)
                host = tried.destinations[0].host
                where[host] = where.get(host, 0) + 1
                if spec.group is not None:
                    spec.group = _one_more(spec.group, host)
        return Fit(count, where, "", [], tried.counts if count else [], snapshot.number)

    async def refusals(self, spec: RequestSpec) -> list[Rejection]:
        """What the filters say of the requested host alone, on which the server is: room is not asked for."""
        spans.about(spec.server_id)
        await self._hosts.complete([spec])
        spec.group = None  # it is there already
        here = [
            state
            for state in (await self._hosts.current(afresh=True)).states
            if spec.requested_host in (state.host, state.node)
        ]
        return [
            Rejection(state.host, one.name, reason)
            for state in here
            for one in self._rules.filters
            if (reason := one.refuses(state, spec))
        ][:1]

    # ── a batch

    async def _serve(self, batch: list[_Wait]) -> None:
        promised = dict[str, dict[str, str]]()  # group → server id → host
        left, known = batch, False
        if len(batch) == 1:  # several share one question about the books, and are decided once
            left, known = await self._at_once(batch, promised)
            if not left:
                return
        for attempt in range(max(1, self._settings.claim_attempts) + 1):
            await self._hosts.complete([one.item.spec for one in left])
            snapshot = await self._current(afresh=attempt > 0, books=attempt > 0 or not known)
            self._decide(snapshot, [one.item for one in left], promised)
            left = await self._claim(snapshot, left)
            if attempt:  # those without any host on what was seen a moment ago have had their second look
                left = await self._end_refused(snapshot, left)
            if not left:
                return
        await self._end_refused(snapshot, left, last=True)

    async def _at_once(self, batch: list[_Wait], promised: dict[str, dict[str, str]]) -> tuple[list[_Wait], bool]:
        """Claim what is decided on the books as they are known, if they did not change since: mostly so, and nobody was
        asked first. Where they did, that is told, and what is decided then is claimed. Who is left, and whether the
        books are known as they were a moment ago."""
        waiting, told = batch, False
        for even_if_changed in (False, True):
            await self._hosts.complete([one.item.spec for one in waiting])
            snapshot = await self._current(afresh=False, books=False)
            self._decide(snapshot, [one.item for one in waiting], promised)
            waiting, since = self._in_time(waiting), snapshot.position
            if not waiting or not all(one.item.tried and one.item.tried.destinations for one in waiting):
                break
            claims = [_claim_of(one.item) for one in waiting]
            claimed = await self._placement.claim_as_known(since, claims, even_if_changed=even_if_changed)
            await snapshot.learn(since, claimed.changes)
            if claimed.results:
                return self._ended(snapshot, waiting, claimed.results), True
            promised.clear()
            told = True
        promised.clear()
        return waiting, told

    async def _current(self, *, afresh: bool, books: bool = True) -> Snapshot:
        if self._snapshot is None:
            from kilonova.compute.scheduler.snapshot import Snapshot  # numpy is loaded when somebody schedules

            self._snapshot = Snapshot(self._rules, self._placement.changes)
        await self._snapshot.follow(await self._hosts.current(afresh=afresh), afresh=books)
        if not self._settled and len(self._snapshot.table) >= _MANY_HOSTS:
            # Hosts and books are here to stay: the collector of cycles need not walk through them again and again.
            self._settled = True
            gc.collect()
            gc.freeze()
        return self._snapshot

    def _decide(self, snapshot: Snapshot, asked: Sequence[_Asked], promised: dict[str, dict[str, str]]) -> None:
        """Each sees the room that those before it are to get, and where the others of its group go."""
        with snapshot.pending():
            for one in asked:
                group = str(one.spec.scheduler_hints.get("group", ""))
                if one.spec.group is not None:
                    for server_id, host in promised.get(group, {}).items():
                        if server_id != one.spec.server_id:
                            one.spec.group = _one_more(one.spec.group, host)
                one.tried = snapshot.decide(one.spec, self._world.random)
                if one.tried.destinations:
                    snapshot.take(one.tried, one.spec)
                    promised.setdefault(group, {})[one.spec.server_id] = one.tried.destinations[0].host

    async def _claim(self, snapshot: Snapshot, waiting: list[_Wait]) -> list[_Wait]:
        """Claim for all that found a host; who is left without."""
        waiting = self._in_time(waiting)
        found = [one for one in waiting if one.item.tried and one.item.tried.destinations]
        left = [one for one in waiting if one not in found] if len(found) < len(waiting) else []
        if not found:
            return left
        results = await self._placement.claim_many([_claim_of(one.item) for one in found])
        return [*left, *self._ended(snapshot, found, results)]

    def _ended(self, snapshot: Snapshot, found: list[_Wait], results: Sequence[ClaimResult]) -> list[_Wait]:
        """Answer those whose claims stand; the others, and what they lost."""
        left: list[_Wait] = []
        stand: list[_Wait] = []
        for one, result in zip(found, results, strict=True):
            tried = one.item.tried
            assert tried is not None
            if result.stands:
                snapshot.placed(tried)
                stand.append(one)
                continue
            why = "another server took its room first"
            if result.wanted:
                why = f"{why}: {result.wanted} {result.resource_class} wanted, {result.free} free"
            one.item.lost.append(Rejection(tried.destinations[0].host, explain.LOST, why))
            left.append(one)
        for one in stand:
            assert one.item.tried is not None
            one.give((one.item.tried, one.item.lost, None))
        if stand:
            stood = self._keep([(one.item, None) for one in stand], unhurried=True)
            keeping = self._world.spawn(stood, "scheduler decisions")
            self._keeping.add(keeping)
            keeping.add_done_callback(self._keeping.discard)
        return left

    def _in_time(self, waiting: list[_Wait]) -> list[_Wait]:
        """Those whose askers wait still: the others ask again elsewhere, and a claim from here would undo theirs."""
        now = self._world.clock.now().timestamp() + _CLAIM_SECONDS
        for one in waiting:
            if 0 < one.item.deadline_at < now:
                one.fail(unavailable("The scheduler was too slow.", hint="Try again in a moment."))
        return [one for one in waiting if not one.answer.done()]

    async def _end_refused(self, snapshot: Snapshot, waiting: list[_Wait], *, last: bool = False) -> list[_Wait]:
        """Answer those that no host can take (`last`: all), and say who may try again."""
        ends = [one for one in waiting if last or (one.item.tried and not one.item.tried.destinations)]
        told: list[tuple[_Wait, Try, Fault]] = []
        for one in ends:
            spec, tried, lost = one.item.spec, one.item.tried, one.item.lost
            assert tried is not None
            flavors = await self._hosts.flavors(spec.project_id) if tried.shortage else []
            told.append((one, tried, self._refusal(snapshot, spec, (tried, lost), flavors)))
        await self._keep([(one.item, fault) for one, _, fault in told])
        for one, tried, fault in told:
            one.give((tried, one.item.lost, fault))
        return [one for one in waiting if one not in ends]

    def _refusal(
        self, snapshot: Snapshot, spec: RequestSpec, ended: tuple[Try, list[Rejection]], flavors: Sequence[Flavor]
    ) -> Fault:
        tried, lost = ended
        emptied = tried.emptied_by or explain.LOST
        if emptied == explain.ROOM and lost:
            emptied = explain.LOST
        fitting = snapshot.nearest_fit(spec, flavors) if emptied == explain.ROOM else ""
        filters = {one.name: one for one in self._rules.filters}
        reasons = [*tried.rejections, *lost]
        return explain.no_valid_host(spec, reasons, emptied, (tried.shortage, filters, fitting))

    async def _keep(self, ended: list[tuple[_Asked, Fault | None]], *, unhurried: bool = False) -> None:
        """The reasons stay for a while. Not being able to keep them stops nobody."""
        if self._recorder is None or not ended:
            return
        now = self._world.clock.now()
        try:
            kept = [_kept(self._world.ids.uuid(), now, asked, fault) for asked, fault in ended]
            await self._recorder.keep(kept, unhurried=unhurried)
        except Fault as fault:
            log.warning("decisions are not kept: %r", fault)


def _claim_of(asked: _Asked) -> ClaimRequest:
    assert asked.tried is not None
    spec = asked.spec
    return ClaimRequest(spec.server_id, spec.project_id, spec.user_id, asked.tried.destinations[0].held)


def _one_more(group: GroupSpec, host: str) -> GroupSpec:
    return msgspec.structs.replace(group, hosts={**group.hosts, host: group.hosts.get(host, 0) + 1})


def _kept(id_: str, now: object, asked: _Asked, fault: Fault | None) -> Kept:
    spec, tried = asked.spec, asked.tried
    assert tried is not None
    retried = bool(asked.lost)
    return Kept(
        id=id_,
        server_id=spec.server_id,
        request_id=asked.request_id,
        project_id=spec.project_id,
        created_at=now,  # type: ignore[arg-type]
        host="" if fault else tried.destinations[0].host,
        snapshot=tried.snapshot,
        message=fault.told if fault else "",
        wanted={"flavor": spec.flavor.name, "resources": spec.resources, "availability_zone": spec.availability_zone},
        counts=tried.counts,
        best=tried.best,
        rejections=[*(tried.rejections if fault or retried else []), *asked.lost],
    )


def _note(made: Try, lost: list[Rejection]) -> None:
    """What the trace shows: how many hosts were left after each filter; and why each rejected one was."""
    first, rest = made.counts[0], made.counts[1:]
    counts = ", ".join(f"{name} {left}" for name, left in rest)
    reasons = "; ".join(f"{one.host}: {one.filter}: {one.reason}" for one in [*made.rejections, *lost][:_NOTED])
    spans.note(f"{first[1]} of {made.hosts} hosts have room; left: {counts or 'none'}", rejections=reasons)
