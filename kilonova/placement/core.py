"""What placement's handlers get: the books on disk, and their mirror in memory."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from kilonova.base.world import World
from kilonova.db.database import Database
from kilonova.placement.change import store as change_store
from kilonova.placement.contract import Changes

if TYPE_CHECKING:
    from kilonova.placement.mirror.books import Mirror
    from kilonova.placement.mirror.keeper import Keeper


@dataclass
class PlacementService:
    """What handlers get."""

    world: World
    db: Database
    _keeper: Keeper | None = None

    async def mirror(self) -> Mirror:
        """The books in memory, with all that was committed before this call; ask again after each await."""
        if self._keeper is None:
            from kilonova.placement.mirror.keeper import Keeper  # numpy is loaded when somebody searches

            self._keeper = Keeper(self.changes)
        return await self._keeper.current()

    async def changes(self, since: str) -> Changes:
        """What happened to the books after the position `since`."""
        return await self.db.read(change_store.since, since, self.now())

    def now(self) -> datetime:
        """Wall-clock time, UTC."""
        return self.world.clock.now()
