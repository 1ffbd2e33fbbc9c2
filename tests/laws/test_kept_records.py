"""A host asks for a server's record once in a create: its next step works on what the one before kept."""

from __future__ import annotations

from kilonova.compute.server.store import Server
from kilonova.saga.journal import OperationRow, StepRow
from kilonova.saga.seams import NoSeams
from kilonova.sim.loop import run
from kilonova.trace.spans import RING
from tests.laws.servers import Door


class Restarts(NoSeams):
    """The agents of all hosts die, and come back, before this step."""

    def __init__(self, before: str) -> None:
        self.step = before
        self.door: Door | None = None

    async def before(self, row: OperationRow, step: StepRow, phase: str) -> None:
        if step.step == self.step and self.door is not None:
            for host in self.door.cloud.hosts:
                self.door.cloud.crash_host(host)
                await self.door.cloud.start_host(host)


def created(restarts: Restarts) -> tuple[Server, int]:
    """(the server that was made, how often its record was asked for)."""
    door = Door(3, hosts=1)
    restarts.door = door
    door.cloud.seams = restarts

    async def main() -> str:
        await door.cloud.start()
        server_id = await door.create()
        await door.cloud.settle()
        return server_id

    RING.spans.clear()
    server = door.state_of(run(main(), 3))
    door.balance()
    return server, sum(1 for span in RING.spans if span.name == "server_for_host" and span.kind == "call")


def test_the_record_is_asked_for_once() -> None:
    server, asked = created(Restarts("nothing"))
    assert (server.vm_state, len(server.ports), asked) == ("active", 1, 1)


def test_an_agent_that_was_restarted_between_two_steps_asks_again() -> None:
    server, asked = created(Restarts("spawn"))
    assert (server.vm_state, len(server.ports), asked) == ("active", 1, 2)
