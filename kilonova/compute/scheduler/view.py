"""Hosts as compute's database knows them: implements `state.Hosts` for the scheduler process.

What operators say (services, aggregates) is asked before every decision. Reports are followed: once a second those
that came since are read, and the hosts are put together again only when what they tell of themselves differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from sqlalchemy import Connection

from kilonova.base.world import World
from kilonova.compute import contract
from kilonova.compute.aggregate import store as aggregate_store
from kilonova.compute.contract import RequestSpec
from kilonova.compute.flavor import store as flavor_store
from kilonova.compute.host import service_store
from kilonova.compute.scheduler import store
from kilonova.compute.scheduler.hints import NEAR, hinted
from kilonova.compute.scheduler.state import AggregateState, HostState, HostsView
from kilonova.compute.server_group import store as group_store
from kilonova.db.database import Database
from kilonova.db.statements import Conversions, Row, converted

FOLLOW_SECONDS: Final = 1.0
COUNT_SECONDS: Final = 5.0
WHOLE_SECONDS: Final = 60.0
_LATE: Final = timedelta(seconds=5)  # a report may be committed so much later than it is dated
_CHANGING: Final = ("metrics", "vcpus_used", "memory_mb_used", "disk_gb_used", "free_disk_gb", "running_servers")


class _Heard(msgspec.Struct):
    """A host's last report, as far as it tells what the host is."""

    provider_id: str
    report: dict[str, Any]
    reported_at: datetime
    came: Any  # `reported_at` as the database's driver gives it
    metrics: dict[str, float] = {}


class DatabaseHosts:
    """`zones` is the catalogue's. `counting`: servers per host are asked for, which costs more the more there are."""

    def __init__(
        self, world: World, db: Database, zones: store.Zones, *, host_down_seconds: float = 60.0, counting: bool = False
    ) -> None:
        self._world = world
        self._db = db
        self._zones = zones
        self._counting = counting
        self._down = timedelta(seconds=host_down_seconds)
        self._heard: dict[str, _Heard] = {}
        self._said: object = None  # what operators said when the hosts were put together
        self._up: frozenset[str] = frozenset()
        self._back = False  # a host reported that was thought down
        self._up_until = datetime.min.replace(tzinfo=UTC)
        self._forced: set[str] = set()
        self._followed: datetime | None = None
        self._due = {"follow": 0.0, "count": 0.0, "whole": 0.0}
        self._states: dict[str, HostState] = {}
        self._view = HostsView(0, ())

    async def current(self, *, afresh: bool = False) -> HostsView:
        """The hosts with all that operators changed before this call; `afresh`: reports of the last second, too."""
        if afresh:
            self._due["follow"] = 0.0
        return await self._db.read(self._look)

    async def complete(self, specs: Sequence[RequestSpec]) -> None:
        """Fills in groups, with where their servers are, and the hosts of the servers that hints name."""
        grouped = [spec for spec in specs if spec.scheduler_hints.get("group")]
        near = [spec for spec in specs if any(spec.scheduler_hints.get(name) for name in NEAR)]
        if grouped or near:
            await self._db.read(_complete, grouped, near)

    async def flavors(self, project_id: str) -> list[contract.Flavor]:
        """The flavors that the project may use."""
        return await self._db.read(flavor_store.usable, project_id)

    # ── the reading

    def _look(self, connection: Connection) -> HostsView:
        now, clock = self._world.clock.now(), self._world.clock.monotonic()
        changed, heard = False, clock >= self._due["follow"]
        if heard:
            changed = self._follow(connection, now, clock)
        disabled, down = service_store.held_back(connection)
        said = (disabled, down, store.aggregates_mark(connection))
        if changed or self._back or down != self._forced or now > self._up_until:
            self._forced, self._back = down, False
            up = self._alive(now - self._down, down)
        else:
            up = self._up
        if changed or said != self._said or up != self._up:
            self._said, self._up = said, up
            states = self._put_together(connection, disabled)
            self._states = {state.host: state for state in states}
            self._view = HostsView(self._view.version + 1, states, self._view.counts_version, self._view.counts)
        if clock >= self._due["count"]:
            self._due["count"] = clock + COUNT_SECONDS
            self._count(connection)
        return self._view

    def _alive(self, since: datetime, down: set[str]) -> frozenset[str]:
        """The hosts that are up, and until when that holds if none of them reports."""
        up = {name: one.reported_at for name, one in self._heard.items() if one.reported_at >= since}
        up = {name: reported_at for name, reported_at in up.items() if name not in down}
        self._up_until = min(up.values(), default=datetime.max.replace(tzinfo=UTC) - self._down) + self._down
        return frozenset(up)

    def _follow(self, connection: Connection, now: datetime, clock: float) -> bool:
        """Whether a host came, went, or tells something else of itself."""
        whole = clock >= self._due["whole"] or self._followed is None
        since = None if whole or self._followed is None else self._followed - _LATE
        rows, convert = store.reported_since(connection, since)
        changed = self._hear(connection, rows, convert)
        if len(self._heard) != store.how_many_hosts(connection):
            (rows, convert), whole = store.reported_since(connection, None), True
            changed |= self._hear(connection, rows, convert)
        if whole:
            self._due["whole"] = clock + WHOLE_SECONDS
            for name in self._heard.keys() - {row[0] for row in rows}:
                del self._heard[name]
                changed = True
        self._followed = now
        self._due["follow"] = clock + FOLLOW_SECONDS
        return changed

    def _hear(self, connection: Connection, rows: Sequence[Row], convert: Conversions) -> bool:
        changed = False
        news = [row for row in rows if (one := self._heard.get(row[0])) is None or row[2] != one.came]
        reports = store.reports(connection, [row[0] for row in news])
        for row in news:
            name, provider_id, reported_at = converted(row, convert)
            known, report = self._heard.get(name), reports.get(name, {})
            told = {key: value for key, value in report.items() if key not in _CHANGING}
            if known is None or known.provider_id != provider_id or known.report != told:
                known = self._heard[name] = _Heard(provider_id, told, reported_at, row[2])
                changed = True
            known.reported_at, known.came = reported_at, row[2]
            known.metrics = report.get("metrics", {})
            if (state := self._states.get(name)) is not None:
                state.metrics = known.metrics  # they change all the time, and make no other host of it
            self._back = self._back or not (name in self._up or name in self._forced)
        return changed

    def _count(self, connection: Connection) -> None:
        building = store.building(connection)
        living = store.living(connection) if self._counting else {}
        counts = {name: (living.get(name, 0), building.get(name, 0)) for name in living.keys() | building.keys()}
        self._view = msgspec.structs.replace(self._view, counts_version=self._view.counts_version + 1, counts=counts)

    def _put_together(self, connection: Connection, disabled: dict[str, str]) -> list[HostState]:
        zone_of = self._zones(connection)
        within: dict[str, list[AggregateState]] = {}
        for one in aggregate_store.every(connection):
            state = AggregateState(one.id, one.name, one.metadata)
            for host in one.hosts:
                within.setdefault(host, []).append(state)
        return [
            self._state(name, zone_of(name), disabled.get(name), tuple(within.get(name, ())))
            for name in sorted(self._heard)
        ]

    def _state(self, name: str, zone: str, disabled: str | None, aggregates: tuple[AggregateState, ...]) -> HostState:
        heard = self._heard[name]
        report = heard.report
        return HostState(
            name,
            str(report.get("node", name)),
            heard.provider_id,
            up=name in self._up,
            enabled=disabled is None,
            disabled_reason=disabled or "",
            availability_zone=zone,
            hypervisor_type=str(report.get("hypervisor_type", "")),
            hypervisor_version=int(report.get("hypervisor_version") or 0),
            cpu_info=report.get("cpu_info", {}),
            host_ip=str(report.get("host_ip", "")),
            aggregates=aggregates,
            numa_cells=msgspec.convert(report.get("numa_cells", ()), tuple[contract.NumaCell, ...]),
            failed_builds=int(report.get("failed_builds", 0)),
            metrics=heard.metrics,
            pci_pools=msgspec.convert(report.get("pci_pools", ()), tuple[contract.PciPool, ...]),
        )


def _complete(connection: Connection, grouped: list[RequestSpec], near: list[RequestSpec]) -> None:
    for spec in grouped:
        found = group_store.spec_of(connection, spec.server_id)
        if found is None:  # not a member: a question what would be, so as the next member
            found = group_store.spec_of_group(connection, str(spec.scheduler_hints["group"]))
        spec.group = found
    for spec in near:
        spec.near = store.where(connection, sorted(id_ for name in NEAR for id_ in hinted(spec, name)))
