"""Steps that must not fail for one lost message: asked again, and when a host is silent, later."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from kilonova.base.faults import Fault, Kind
from kilonova.compute.core import Compute
from kilonova.saga.hosts import HostSilent
from kilonova.saga.journal import Parked
from kilonova.saga.operation import Operation

T = TypeVar("T")
AGAIN_SECONDS = (1.0, 4.0, 15.0)
SILENT_SECONDS = 20.0  # noticed when the host was asked twice: who deletes waits 30 s at most
PATIENT_SECONDS = (*AGAIN_SECONDS, *(60.0,) * 25)


async def insist(
    op: Operation[Compute],
    compute: Compute,
    title: str,
    act: Callable[..., Awaitable[T]],
    *args: Any,
    patience_seconds: float = SILENT_SECONDS,
    again_seconds: tuple[float, ...] = AGAIN_SECONDS,
) -> T:
    """What the step returns; asked again when a peer did not answer. A silent host raises HostSilent at once."""
    for pause_seconds in again_seconds:
        try:
            return await op.step(title, act, *args, patience_seconds=patience_seconds)
        except HostSilent:
            raise
        except Fault as fault:
            if fault.kind is not Kind.UNAVAILABLE or fault.code == "HostSilent":
                raise
        await compute.world.clock.sleep(pause_seconds)
    return await op.step(title, act, *args, patience_seconds=patience_seconds)


async def now_or_later(
    op: Operation[Compute], compute: Compute, title: str, act: Callable[..., Awaitable[T]], *args: Any
) -> T:
    """Like `insist`, for an operation that waits for who does not answer (Parked), and is run again: one try more."""
    again_seconds: tuple[float, ...] = AGAIN_SECONDS
    while op.failed_before(act):
        again_seconds = ()
        try:
            return await op.step(title, act, *args)
        except Fault as fault:
            if fault.kind is not Kind.UNAVAILABLE:
                raise
    return await insist(op, compute, title, act, *args, again_seconds=again_seconds)


async def until_done(
    op: Operation[Compute], compute: Compute, title: str, act: Callable[..., Awaitable[T]], *args: Any
) -> T:
    """Like `insist`, for what cannot be undone any more: for half an hour, and for as long as the host is silent."""
    try:
        return await insist(op, compute, title, act, *args, patience_seconds=60.0, again_seconds=PATIENT_SECONDS)
    except HostSilent as silence:
        raise Parked(f"{op.row.kind} of {op.row.resource_id} waits for its host: {title}") from silence
