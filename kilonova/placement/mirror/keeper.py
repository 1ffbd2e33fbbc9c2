"""Keeper: a mirror that is as new as its asker. Each question first takes in what was committed before it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from kilonova.placement.contract import Changes
from kilonova.placement.mirror.books import Mirror


class Keeper:
    """`changes(since)` is where the mirror is fed from: placement's client, or its own database."""

    def __init__(self, changes: Callable[[str], Awaitable[Changes]]) -> None:
        self._changes = changes
        self._mirror = Mirror()
        self._reading = asyncio.Lock()
        self._begun = 0
        self._ended = 0  # the last reading that ended well, as counted when it began

    async def known(self) -> Mirror:
        """The mirror as it is; all of the books when it has nothing yet. They may have changed since."""
        return self._mirror if self._mirror.position else await self.current()

    async def take(self, since: str, changes: Changes) -> None:
        """Take in what was told to have happened since that position, unless the mirror is at another by now."""
        async with self._reading:
            if self._mirror.position == since:
                self._mirror.apply(changes)

    async def current(self) -> Mirror:
        """The mirror with all that was committed before this call. Many callers at once cost one reading.

        It is the keeper's own: ask it before the next await, or know that it may have moved on.
        """
        arrived = self._begun
        async with self._reading:
            if self._ended <= arrived:  # else a reading that began after we came has ended
                self._begun += 1
                number = self._begun
                self._mirror.apply(await self._changes(self._mirror.position))
                self._ended = number
        return self._mirror
