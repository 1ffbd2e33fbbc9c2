"""Waiting for a service that is away for a moment: while it restarts, or the broker or database behind it does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from kilonova.base.clock import Clock
from kilonova.base.faults import Fault, Kind

T = TypeVar("T")
AWAY: Final = "ServiceAway"  # the code of faults that say so; it crosses the wire and stands in journals
AWAY_SECONDS: Final = 60.0  # how long an operation waits for a service, from its first refusal
PAUSES_SECONDS: Final = (0.5, 1.0, 2.0, 4.0)  # between tries; the last again and again


def away(message: str, *, inside: str) -> Fault:
    """UNAVAILABLE: a service does not answer, or says that it cannot serve now."""
    return Fault(Kind.UNAVAILABLE, message, inside=inside, code=AWAY)


def is_away(error: BaseException) -> bool:
    """Whether asking again in a moment may help."""
    return isinstance(error, Fault) and error.kind is Kind.UNAVAILABLE and error.code == AWAY


async def patiently(
    clock: Clock, seconds: float, act: Callable[[], Awaitable[T]], again: Callable[[Fault], Awaitable[None]]
) -> T:
    """What `act` returns, asked again while a service is away, until `seconds` after the first refusal: then that
    fault. What `act` does must be harmless to do twice; `again` is called before each new try, and may forbid it."""
    until, tries = 0.0, 0
    while True:
        try:
            return await act()
        except Fault as fault:
            pause = PAUSES_SECONDS[min(tries, len(PAUSES_SECONDS) - 1)]
            now, tries = clock.monotonic(), tries + 1
            until = until or now + seconds
            if not is_away(fault) or now + pause > until:
                raise
            refusal = fault
        await clock.sleep(pause)
        await again(refusal)
