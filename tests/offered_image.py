"""An image that a test gives to a host's disks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field


@dataclass
class OfferedImage:
    """Implements `image.contract.RemoteImage`: its bytes come from a function of the test's."""

    id: str
    bring: Callable[[str], Awaitable[None]]
    bytes_: int
    at: list[str] = field(default_factory=list)

    async def room_bytes(self) -> int:
        """What the test says."""
        return self.bytes_

    async def places(self) -> list[str]:
        """Where the test says that it is."""
        return self.at

    async def fetch(self, path: str) -> None:
        """The test's function writes the file."""
        await self.bring(path)
