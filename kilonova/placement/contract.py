"""Placement's contract: what compute asks of the one book of capacity, over REST with compute's own service token."""

from __future__ import annotations

from collections.abc import Sequence
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


class ProviderBooks(msgspec.Struct, frozen=True, gc=False):
    """A provider with all that hangs on it: what a mirror keeps."""

    id: str
    name: str
    generation: int
    parent_id: str | None
    root_id: str
    inventories: dict[str, Inventory]
    used: dict[str, int]
    traits: tuple[str, ...] = ()
    aggregates: tuple[str, ...] = ()


class HeldBooks(msgspec.Struct, frozen=True):
    """What the books say of a provider itself, as whoever keeps it up to date compares it."""

    name: str
    generation: int
    inventories: dict[str, Inventory]
    traits: list[str]


class Used(msgspec.Struct, frozen=True, gc=False):
    """What is used of a provider now, after claims: only the classes that changed."""

    id: str
    generation: int
    used: dict[str, int]


class Changes(msgspec.Struct, frozen=True):
    """What happened to the books after a position. `position` is opaque: ask with it for what comes after."""

    position: str
    whole: bool = False  # `providers` is all there is: forget everything else
    providers: tuple[ProviderBooks, ...] = ()
    used: tuple[Used, ...] = ()  # of providers that are not in `providers`
    gone: tuple[str, ...] = ()


class ClaimRequest(msgspec.Struct, frozen=True):
    """What a consumer is to hold, all of it; nothing: it gives everything back.

    `consumer_generation`: what the caller saw, None for a new consumer, UNSET when it replaces whatever was held.
    """

    consumer_id: str
    project_id: str
    user_id: str
    allocations: dict[str, dict[str, int]]  # provider id → resource class → amount
    consumer_type: str = "INSTANCE"
    consumer_generation: int | msgspec.UnsetType | None = msgspec.UNSET


class ClaimResult(msgspec.Struct, frozen=True):
    """How a claim of a batch ended. `reason` is "" when it stands, else one of the words below.

    `changed`: another request changed the consumer; `no_provider`; `no_inventory`: the provider has none of the class;
    `bad_amount`: against min_unit, max_unit or step_size; `no_room`: `wanted` is more than is `free`.
    """

    consumer_id: str
    reason: str = ""
    provider_id: str = ""
    resource_class: str = ""
    wanted: int = 0
    free: int = 0

    @property
    def stands(self) -> bool:
        """Whether the consumer now holds what it asked for."""
        return not self.reason


class Claimed(msgspec.Struct, frozen=True):
    """How claims that were decided on known books ended; `results` is empty when the books had changed."""

    results: tuple[ClaimResult, ...]
    changes: Changes  # after what was known, these claims included


class Placement(Protocol):
    """Placement over REST. Implemented by placement/client.py."""

    async def changes(self, since: str) -> Changes:
        """What changed in the books after `since` (""; everything). Feed it to a `placement.mirror.books.Mirror`."""
        ...

    async def claim_many(self, claims: Sequence[ClaimRequest]) -> list[ClaimResult]:
        """Claim for many consumers in one transaction, each standing or failing alone, in the order given."""
        ...

    async def claim_as_known(
        self, position: str, claims: Sequence[ClaimRequest], *, even_if_changed: bool = False
    ) -> Claimed:
        """`claim_many`, when nothing happened to the books after `position` or `even_if_changed`; else nothing is
        claimed. So whoever has a mirror needs not ask first whether it is as new as the books."""
        ...

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

    async def move(self, from_id: str, to_id: str, to_type: str) -> None:
        """`to_id` (INSTANCE or MIGRATION) holds exactly what `from_id` held, which holds nothing; all at once, so that
        nobody takes the room in between. `from_id` holds nothing: nothing, so that repeats are harmless."""
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
