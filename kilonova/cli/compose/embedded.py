"""The embedded cloud: every service and every host's agents in this one process. Read `start` down."""

from __future__ import annotations

import logging
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from kilonova.base.faults import Fault, not_found
from kilonova.cli import serve
from kilonova.cli.admin_port import AdminPort
from kilonova.cli.compose.consoles import console_proxy
from kilonova.cli.compose.embedded_ground import EmbeddedGround
from kilonova.cli.compose.embedded_services import Services, build
from kilonova.cli.compose.first_things import FirstThings
from kilonova.cli.compose.hosts import Agents, HostPlan, make_hosts, make_volumes, start_agents, way_in_words
from kilonova.cli.guest import cache_directory
from kilonova.cli.settings import read_settings
from kilonova.cli.state import Choices, State, free_port, listen_address
from kilonova.compute.contract import Screen
from kilonova.http.app import Mounts
from kilonova.trace.logs import configure_logging

if TYPE_CHECKING:
    from kilonova.node.hypervisor.kvm_probe import Verdict

log = logging.getLogger(__name__)


class EmbeddedCloud:
    """One cloud in one process. `told` gets a line per stage."""

    def __init__(self, state: State, choices: Choices, told: Callable[[str], None]) -> None:
        self.state = state
        self.choices = choices
        self.told = told
        self.settings = read_settings(choices.config)
        self.ground: EmbeddedGround | None = None
        self.services: Services | None = None
        self.agents: list[Agents] = []
        self._closing: list[Callable[[], Awaitable[None]]] = []
        self._began = time.monotonic()
        self._way_out = "none"

    async def start(self) -> None:
        """Everything up, in the order in which it is needed; returns when the APIs answer."""
        configure_logging(self.settings.log.level, self.state.logs / "kilonova.log")
        ground = self.ground = EmbeddedGround(self.state, self.choices, self.settings)
        ground.collect_traces()
        self._lag = serve.LoopLag(ground.world)
        built = self.services = await build(ground)
        self.told("databases at this release's schema, services composed")
        await self._listen(ground)
        self.told(f"APIs answer at {ground.url}")
        await self._start_hosts(ground, built)
        await FirstThings(ground, self.told).make()
        built.start_loops()

    async def _listen(self, ground: EmbeddedGround) -> None:
        host, port = listen_address(self.choices.listen)
        ground.mounts["/console"] = console_proxy(ground, self._connect)
        api = serve.Listener(Mounts(ground.mounts), (host, port), websockets=True)
        await api.start()
        self._closing.insert(0, api.close)
        await self._listen_for_admin()

    async def _listen_for_admin(self) -> None:
        """On the port that `up` chose, or on the next one when another program was quicker."""
        while True:
            admin = AdminPort(self.choices.admin_port, self.describe, self.problems)
            try:
                await admin.start()
                break
            except Fault:
                self.choices.admin_port = free_port("127.0.0.1", self.choices.admin_port + 1)
                self.state.save(self.choices)
        self._closing.insert(0, admin.close)

    async def _start_hosts(self, ground: EmbeddedGround, built: Services) -> None:
        real = self.choices.hypervisor == "libvirt"
        accelerator = await self._accelerator(ground) if real else "tcg"
        secret = ground.secrets.metadata_secret
        forward, uplink = built.forward_metadata, self.settings.uplink
        ceph = ground.settings.ceph
        plan = HostPlan(ground.world, self.state, self.choices, forward, secret, accelerator, uplink, ceph)
        self._way_out = way_in_words(plan)
        await built.start_conductors()
        for host in await make_hosts(plan):
            agents = await start_agents(plan, host, ground, built.agent_peers())
            self.agents.append(agents)
            if host.number == 1:
                await built.start_volume_agent(make_volumes(plan, host.number))
            await agents.compute.report()
        words = f"libvirt, QEMU with {accelerator}" if real else "fake hypervisor"
        self.told(f"{len(self.agents)} host(s): {words}, {self.choices.network} network, way out: {self._way_out}")

    async def _connect(self, host: str, screen: Screen) -> tuple[StreamReader, StreamWriter]:
        """A stream to an address as it is seen from a host."""
        agents = next((one for one in self.agents if one.host.name == host), None)
        if agents is None:
            raise not_found("Host", host)
        return await agents.host.wires.connect(screen.address, screen.port)

    async def _accelerator(self, ground: EmbeddedGround) -> str:
        """kvm where a guest kernel really boots on it, else QEMU's own emulation."""
        from kilonova.node.guest.build import build_guest
        from kilonova.node.hypervisor.kvm_probe import probe

        def look() -> Verdict:
            guest = build_guest(self.state.directory / "guest", cache_directory(), told=self.told)
            return probe(str(self.state.directory), str(guest.kernel))

        verdict = await ground.world.blocking(look)
        log.info("accelerator %s: %s", verdict.accelerator, verdict.reason)
        return verdict.accelerator

    def give_memory_back(self) -> None:
        """What the start needed goes back to the machine now, what is used and freed later from time to time."""
        if self.ground is not None:
            self.ground.world.spawn(serve.give_memory_back(self.ground.world), "memory")

    async def stop(self) -> None:
        """Stop the control plane and the agents; guests and traffic go on."""
        for close in self._closing:
            await close()
        if self.services is not None:
            await self.services.close()
        for agents in self.agents:
            await agents.close()
        if self.ground is not None:
            await self.ground.close()

    def reload(self) -> None:
        """SIGHUP: policy and log level; anything else needs a restart."""
        if self.ground is None:
            return
        try:
            fresh = read_settings(self.choices.config)
            configure_logging(fresh.log.level, self.state.logs / "kilonova.log")
            for warning in self.ground.reload_policies():
                log.warning("policy: %s", warning)
            log.info("policy and log level reloaded; a change to any other setting needs a restart")
        except Fault as fault:
            log.error("nothing was reloaded: %r", fault)

    async def describe(self) -> dict[str, Any]:
        """For `kilonova status`."""
        problems = await self.problems()
        counts = await self.services.counts() if self.services else {}
        unfinished, stuck = await self.services.unfinished() if self.services else (0, 0)
        return {
            "ready": not problems,
            "problems": problems,
            "url": self.ground.url if self.ground else "",
            "memory_mb": serve.memory_mb(),
            "uptime_seconds": int(time.monotonic() - self._began),
            "hosts": [agents.host.name for agents in self.agents],
            "hypervisor": self.choices.hypervisor,
            "network": self.choices.network,
            "way_out": self._way_out,
            "counts": counts,
            "unfinished": unfinished,
            "stuck": stuck,
        }

    async def problems(self) -> list[str]:
        """What keeps this process from being ready."""
        if self.ground is None or self.services is None:
            return ["still starting"]
        found = []
        for name, db in self.ground.databases.items():
            try:
                await db.read(_ping)
            except Fault as fault:
                found.append(f"database {name}: {fault.message}")
        return [*found, *self._lag.problems()]


def _ping(connection: Any) -> None:
    connection.exec_driver_sql("SELECT 1")
