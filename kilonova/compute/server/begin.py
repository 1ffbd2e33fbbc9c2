"""Begin an operation on a server: the state moves, the operation is recorded with its arguments, a conductor hears."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from sqlalchemy import Connection

from kilonova.base.faults import Fault, unavailable
from kilonova.compute.core import Compute
from kilonova.compute.schema import journal
from kilonova.compute.server import states, store
from kilonova.compute.server.store import Server
from kilonova.compute.server.under_way_store import unfinished_operations
from kilonova.db.database import says
from kilonova.http.request import Request
from kilonova.saga.begin import Wanted, asked
from kilonova.saga.journal import OperationRow
from kilonova.trace import spans

ADMIN = "context_is_admin"


def new_operation(
    compute: Compute,
    request: Request[Any],
    kind: str,
    server_id: str,
    args: dict[str, Any],
    secrets: dict[str, Any] | None = None,
) -> OperationRow:
    """The row of an operation that this request asks for. `secrets` are sealed, and the user's token with them."""
    return asked(compute.world, compute.sealer, request, Wanted(kind, server_id, args, secrets or {}))


@says(lambda _id, action, row, _admin: f"servers: task_state for {action}; operation {row.kind} recorded")
def _take(connection: Connection, server_id: str, action: str, row: OperationRow, admin: bool) -> Server:
    running = unfinished_operations(connection, server_id) if states.ACTIONS[action].interrupts else []
    server = store.take(connection, server_id, action, row, admin=admin)
    row.args["host"] = server.host
    if over := [one for one, _ in running if journal.supersede(connection, one, row.created_at)]:
        row.args["over"] = over
    journal.insert(connection, row)
    return server


async def begin(
    compute: Compute,
    request: Request[Any],
    server_id: str,
    action: str,
    args: dict[str, Any] | None = None,
    *,
    secrets: dict[str, Any] | None = None,
) -> Server:
    """Start the operation `action` on a server that its host has a part in; returns the server as it was."""
    spans.about(server_id)
    kind = action.partition(" ")[0]
    row = new_operation(compute, request, kind, server_id, {"server_id": server_id, **(args or {})}, secrets)
    server = await compute.db.write(_take, server_id, action, row, request.allows(ADMIN))
    spans.note(f"state {server.vm_state}: {action} is allowed; action recorded")
    await compute.conductor.run_operation(row.id)
    return server


Change = Callable[[Connection, Server], None]


@says(lambda _id, action, row, *_: f"servers: {action} may start; operation {row.kind} recorded")
def _take_beside(
    connection: Connection, server_id: str, action: str, row: OperationRow, admin: bool, change: Change
) -> Server:
    server = store.get(connection, server_id, lock=True)
    states.check(action, server.now(), admin=admin)
    change(connection, server)
    row.args["host"] = server.host
    journal.insert(connection, row)
    return server


async def record_beside(
    compute: Compute, request: Request[Any], action: str, row: OperationRow, change: Change
) -> Server:
    """Record an operation that works beside others on the same server (a disk, a NIC), with what `change` writes.

    The server's task_state and owner stay; a delete takes it over as it takes over any. Returns the server as it was.
    """
    spans.about(row.resource_id)
    server = await compute.db.write(_take_beside, row.resource_id, action, row, request.allows(ADMIN), change)
    spans.note(f"state {server.vm_state}: {action} is allowed; action recorded")
    return server


async def ended(compute: Compute, operation_id: str, *, within_seconds: float = 180.0) -> OperationRow:
    """The operation once it is done; what it failed with is raised. For requests whose answer is its result."""
    clock = compute.world.clock
    until, pause = clock.monotonic() + within_seconds, 0.02
    while clock.monotonic() < until:
        row = await compute.db.read(journal.get, operation_id)
        if row is not None and row.state == "done":
            return row
        if row is None or row.state not in ("running", "undoing"):
            raise Fault.from_wire((row.error if row else None) or {})
        await clock.sleep(pause)
        pause = min(pause * 1.5, 0.5)
    raise unavailable("This takes longer than expected and goes on.", hint="Look at the server's event list.")


async def load(compute: Compute, request: Request[Any], *, rule: str = "") -> Server:
    """The server in the request's path, when the caller may know of it and the route's rule allows it."""
    server = await compute.db.read(store.get, request.path["server_id"])
    visible(request, server)
    request.enforce(server.target(), rule)
    spans.note(f"policy: {rule or 'the rule'} allows it")
    return server


class Owned(Protocol):
    """A server, in whatever form."""

    @property
    def id(self) -> str: ...

    @property
    def project_id(self) -> str: ...


def visible(request: Request[Any], server: Owned) -> None:
    """NOT_FOUND when the server is another project's and the caller no admin: its existence is not told."""
    if server.project_id != request.caller.project_id and not request.allows(ADMIN):
        raise store.no_such(server.id)
