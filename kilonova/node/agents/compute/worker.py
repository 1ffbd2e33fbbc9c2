"""The compute agent as a process: its ledger and verbs on the bus, its reports to the conductor."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from kilonova.base.clock import iso_seconds
from kilonova.base.faults import Fault
from kilonova.base.world import World
from kilonova.bus import rpc
from kilonova.bus.contract import Bus, Subscription
from kilonova.compute.contract import COMPUTE_TOPIC, EXCHANGE, ComputeAgent, ComputeHost, HostReport, Power, SeenGuest
from kilonova.db.database import Database
from kilonova.node.agents.compute.agent import ComputeHostAgent
from kilonova.node.ledger import StepServer

log = logging.getLogger(__name__)

REPORT_SECONDS = 10.0
FULL_SECONDS = 60.0
POWER_SECONDS = 0.2  # changes of guests' power within this are told together


def shares(before: Mapping[str, float], now: Mapping[str, float]) -> dict[str, float]:
    """For what the CPUs were used between two readings, from 0 to 1: cpu.percent, cpu.user.percent, …; {} at first."""
    spent = {name: now[name] - before[name] for name in now.keys() & before.keys()}
    total = sum(spent.values())
    if total <= 0:
        return {}
    idle = spent.get("idle", 0.0) + spent.get("iowait", 0.0)
    told = {f"cpu.{name}.percent": round(seconds / total, 3) for name, seconds in sorted(spent.items())}
    return {"cpu.percent": round(1 - idle / total, 3), **told}


class ComputeWorker:
    """Serves `compute.HOST` and reports the host's resources, guests and power changes."""

    def __init__(self, world: World, bus: Bus, ledger: Database, agent: ComputeHostAgent) -> None:
        self.world = world
        self.bus = bus
        self.agent = agent
        self.steps = StepServer(world, bus, ledger, ComputeHost, agent)
        self._subscription: Subscription | None = None
        self._cpu_seconds: dict[str, float] = {}  # as the last report found them
        self._changed: dict[str, Power] = {}  # by server: not told yet
        self._started_at = iso_seconds(world.clock.now())

    async def start(self) -> None:
        """Adopt what the host has, take messages, report."""
        if self.agent.relay is not None:
            await self.agent.relay.start()
        await self.steps.start(self.agent.host)
        await self.agent.books.open()
        self.agent.books.told = lambda: self.world.spawn(self._report_soon(), "compute report")
        handlers = {**self.steps.handlers(), **rpc.handlers(ComputeAgent, self.agent)}
        self._subscription = await self.bus.serve(EXCHANGE, COMPUTE_TOPIC, self.agent.host, handlers)
        self.agent.machine.hypervisor.on_power_change(self._power_changed)
        self.world.spawn(self._report_forever(), "compute report")
        self.world.spawn(self._resume_then_watch(), "compute guests")

    async def close(self) -> None:
        """Take no more messages; guests go on."""
        if self._subscription is not None:
            await self._subscription.close()
        if self.agent.relay is not None:
            await self.agent.relay.close()
        await self.steps.close()
        await self.agent.machine.hypervisor.close()

    async def report(self) -> None:
        """Tell the conductor what this host is and has."""
        hypervisor = await self.agent.info()
        disks = self.agent.machine.disks
        total_gb, free_gb = await disks.total_gb(), await disks.free_gb()
        cells = self.agent.books.cells(hypervisor)
        measured = shares(self._cpu_seconds, hypervisor.cpu_seconds)
        self._cpu_seconds = hypervisor.cpu_seconds
        running = [g for g in await self.agent.machine.hypervisor.guests() if g.power is Power.RUNNING]
        await self.agent.conductor.report_host(
            HostReport(
                host=self.agent.host,
                node=self.agent.host,
                hypervisor_type=hypervisor.type,
                hypervisor_version=hypervisor.version,
                vcpus=sum(len(one.shared) + len(one.dedicated) for one in cells) or hypervisor.vcpus,
                memory_mb=hypervisor.memory_mb,
                disk_gb=total_gb,
                host_ip=self.agent.settings.host_ip,
                cpu_info=hypervisor.cpu_info,
                traits=list(hypervisor.traits),
                free_disk_gb=free_gb,
                running_servers=len(running),
                started_at=self._started_at,
                pcpus=sum(len(cell.dedicated) for cell in cells),
                numa_cells=cells,
                pci_pools=self.agent.books.pools(hypervisor),
                failed_builds=self.agent.failed_builds,
                metrics=measured,
            )
        )

    async def guests(self) -> None:
        """Tell the conductor every guest; destroy those it says must not be here (deleted while the host was away)."""
        seen = [SeenGuest(g.id, g.power) for g in await self.agent.machine.hypervisor.guests()]
        for server_id in await self.agent.conductor.guests_seen(self.agent.host, seen, full=True):
            log.warning("guest %s must not be on this host: destroying it", server_id)
            await self.agent.destroy(server_id)

    def _power_changed(self, server_id: str, power: Power) -> None:
        if not self._changed:
            self.world.spawn(self._tell_powers(), "compute power")
        self._changed[server_id] = power

    async def _tell_powers(self) -> None:
        """What changed within a moment, in one message. What a build or a deletion did, its step has told by then."""
        await self.world.clock.sleep(POWER_SECONDS)
        changed, self._changed = self._changed, {}
        news = [SeenGuest(one, power) for one, power in changed.items() if self.agent.took_to(one) is not power]
        if not news:
            return
        try:
            await self.agent.conductor.guests_seen(self.agent.host, news, full=False)
        except Fault as fault:
            log.info("power of %d guests not told, the next full report does: %r", len(news), fault)

    async def _report_soon(self) -> None:
        """What guests took or gave back is known before the next regular report, so that others find it."""
        await self.world.clock.sleep(0)  # the books are written by then
        try:
            await self.report()
        except Fault as fault:
            log.info("a change of host %s is told by its next report: %r", self.agent.host, fault)

    async def _report_forever(self) -> None:
        while True:
            try:
                await self.report()
            except Fault as fault:
                log.warning("report of host %s failed: %r", self.agent.host, fault)
                await self.world.clock.sleep(1.0)
                continue
            await self.world.clock.sleep(REPORT_SECONDS)

    async def resume(self) -> int:
        """Start the guests that ran before this machine, or the whole cloud, went down; returns how many.

        Done before the first report of what is seen, which would tell that they are off.
        """
        wanted = await self.agent.conductor.servers_to_run(self.agent.host)
        on = (Power.RUNNING, Power.PAUSED, Power.SUSPENDED)
        running = {guest.id for guest in await self.agent.machine.hypervisor.guests() if guest.power in on}
        started = 0
        for server_id in wanted:
            if server_id in running:
                continue
            try:
                await self.agent.start_again(server_id)
                started += 1
            except Fault as fault:
                log.error("server %s ran before and could not be started again: %r", server_id, fault)
        return started

    async def _resume_then_watch(self) -> None:
        while True:
            try:
                if started := await self.resume():
                    log.info("%d guests that ran before are started again", started)
                break
            except Fault as fault:
                log.info("what ran on %s is not known yet: %r", self.agent.host, fault)
                await self.world.clock.sleep(1.0)
        while True:
            try:
                await self.guests()
            except Fault as fault:
                log.info("guests of host %s not told: %r", self.agent.host, fault)
            await self.world.clock.sleep(FULL_SECONDS)
