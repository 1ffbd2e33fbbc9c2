"""Placement's contract: what compute asks of the one book of capacity, over REST with compute's own service token."""

from __future__ import annotations

from typing import Protocol

import msgspec


class Inventory(msgspec.Struct, frozen=True):
    """How much of a resource class a provider has."""

    total: int
    reserved: int = 0
    min_unit: int = 1
    max_unit: int = 2147483647
    step_size: int = 1
    allocation_ratio: float = 1.0


class ProviderSummary(msgspec.Struct, frozen=True):
    """A provider as a scheduler sees it. Capacity is (total - reserved) × allocation_ratio, per resource class."""

    id: str
    name: str
    generation: int
    capacity: dict[str, int]
    used: dict[str, int]
    traits: tuple[str, ...] = ()


class Candidates(msgspec.Struct, frozen=True):
    """Providers with room, and all that were looked at (for reasons when none has room)."""

    fits: tuple[ProviderSummary, ...]


class Placement(Protocol):
    """Placement over REST. Implemented by placement/client.py."""

    async def ensure_provider(
        self, provider_id: str, name: str, inventories: dict[str, Inventory], traits: list[str]
    ) -> None:
        """The provider exists with exactly these inventories and traits; concurrent changes are retried."""
        ...

    async def providers(self) -> list[ProviderSummary]:
        """All providers with capacity and use: for explaining why nothing fits."""
        ...

    async def candidates(self, resources: dict[str, int], required: list[str], forbidden: list[str]) -> Candidates:
        """Providers that have room for `resources` now."""
        ...

    async def claim(
        self, consumer_id: str, provider_id: str, resources: dict[str, int], project_id: str, user_id: str
    ) -> bool:
        """Allocate for the consumer, replacing what it held. False: no longer enough room. Repeats are harmless."""
        ...

    async def release(self, consumer_id: str) -> None:
        """The consumer holds nothing; already so is fine."""
        ...

    async def allocations(self, consumer_id: str) -> dict[str, dict[str, int]]:
        """provider id → resources."""
        ...

    async def consumers_on(self, provider_id: str) -> list[str]:
        """Consumers with allocations on the provider: for the loop that looks for orphans."""
        ...
