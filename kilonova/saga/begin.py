"""An operation as it is first recorded: for the request that asks for it, or for a loop, in nobody's name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from kilonova.base.caller import Caller
from kilonova.base.world import World
from kilonova.saga.journal import OperationRow
from kilonova.saga.seal import Sealer
from kilonova.trace import spans


class Wanted(NamedTuple):
    """What is to be done to which resource. `secrets` are sealed, and with them the token of who asks."""

    kind: str
    resource_id: str
    args: dict[str, Any]
    secrets: Mapping[str, Any] = MappingProxyType({})


class Asking(Protocol):
    """A request, as far as an operation keeps it."""

    @property
    def caller(self) -> Caller:
        """Who asks."""
        ...

    @property
    def request_id(self) -> str:
        """req-UUID."""
        ...


def asked(world: World, sealer: Sealer, request: Asking, wanted: Wanted) -> OperationRow:
    """The row of an operation that a request asks for; it belongs to the request's trace."""
    caller, context = request.caller, spans.current()
    row = _row(world, sealer, wanted, {"token": caller.token, **wanted.secrets})
    row.user_id, row.project_id, row.request_id = caller.user_id, caller.project_id, request.request_id
    row.traceparent = context.traceparent if context else ""
    return row


def unasked(world: World, sealer: Sealer, project_id: str, wanted: Wanted) -> OperationRow:
    """The row of an operation that a loop begins: it has no user, and a trace of its own."""
    row = _row(world, sealer, wanted, wanted.secrets)
    row.project_id, row.request_id = project_id, f"req-{world.ids.uuid()}"
    return row


def _row(world: World, sealer: Sealer, wanted: Wanted, secrets: Mapping[str, Any]) -> OperationRow:
    return OperationRow(
        id=world.ids.uuid(),
        kind=wanted.kind,
        version=1,
        resource_id=wanted.resource_id,
        args=wanted.args,
        user_id="",
        project_id="",
        request_id="",
        created_at=world.clock.now(),
        sealed=sealer.seal(dict(secrets)),
    )
