"""Time, passed in and never reached for: a real clock for live processes; `sim` has a virtual one."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from functools import partial
from typing import Protocol


class Clock(Protocol):
    """Where a process gets its time. All datetimes are aware and UTC."""

    def now(self) -> datetime:
        """Wall-clock time now, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back, for deadlines and durations."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`; 0 yields once."""
        ...


class SystemClock:
    """The machine's clock: each is the system's own function, for an operation asks for the time a hundred times."""

    now = staticmethod(partial(datetime.now, UTC))
    monotonic = staticmethod(time.monotonic)
    sleep = staticmethod(asyncio.sleep)


def iso_seconds(moment: datetime) -> str:
    """`2026-11-20T12:00:00Z`: the form that Compute and Block Storage show."""
    return f"{moment.isoformat()[:19]}Z"


def iso_micros(moment: datetime) -> str:
    """`2026-11-20T12:00:00.000000`: the form of fields that carry microseconds and no zone."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f")


def iso_micros_z(moment: datetime) -> str:
    """`2026-11-20T12:00:00.000000Z`: the form that Identity shows."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
