"""Claims by the batch: one unit, a fixed number of statements, each claim standing or failing alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec
from sqlalchemy import Connection

from kilonova.db.database import says
from kilonova.placement.allocation import rows_store as rows
from kilonova.placement.allocation.rows_store import Amounts, Book, Consumer, Key, Rows
from kilonova.placement.allocation.store import Claim, write_owners
from kilonova.placement.change import store as changes
from kilonova.placement.contract import Claimed, ClaimRequest, ClaimResult
from kilonova.placement.provider import store as providers

CHANGED = "changed"
NO_PROVIDER = "no_provider"
NO_INVENTORY = "no_inventory"
BAD_AMOUNT = "bad_amount"
NO_ROOM = "no_room"


@says(lambda claims, now: f"claim for {len(claims)} consumers")
def claim_many(connection: Connection, claims: Sequence[ClaimRequest], now: datetime) -> list[ClaimResult]:
    """How each claim ended, in their order; an earlier one takes its room before a later one is looked at."""
    owners = rows.consumers(connection, [claim.consumer_id for claim in claims], lock=True)
    before = rows.held(connection, owners)
    asked = {id_ for claim in claims for id_ in claim.allocations}
    locked = providers.locked(connection, asked | {key[1] for key in before})
    desk = _Desk(owners, before, locked, rows.books(connection, locked))
    results = [desk.decide(claim) for claim in claims]
    if desk.standing:
        desk.write(connection, now)
    return results


@says(lambda position, claims, now: f"claim for {len(claims)} consumers, if the books are as known")
def claim_as_known(
    connection: Connection, position: str, claims: Sequence[ClaimRequest], now: datetime, *, even_if_changed: bool
) -> Claimed:
    """`claim_many`, unless the books changed after the position; and what changed since, these claims included."""
    if not even_if_changed:
        news = changes.since(connection, position, now)
        if news.whole or news.providers or news.used or news.gone:
            return Claimed((), news)
    results = claim_many(connection, claims, now)
    return Claimed(tuple(results), changes.since(connection, position, now))


class _Desk:
    """Decides one claim after the other on what was read, and then writes all that stand."""

    def __init__(
        self,
        owners: dict[str, Consumer],
        before: Rows,
        locked: Mapping[str, providers.Provider],
        books: Mapping[Key, Book],
    ) -> None:
        self.standing: list[Claim] = []
        self._owners = owners
        self._held: dict[str, Amounts] = {}
        for (consumer_id, provider_id, name), amount in before.items():
            self._held.setdefault(consumer_id, {})[provider_id, name] = amount
        self._locked = locked
        self._books = books
        self._used = {key: book.used for key, book in books.items()}
        self._touched: set[str] = set()
        self._changed: set[Key] = set()

    def decide(self, claim: ClaimRequest) -> ClaimResult:
        """Take what is asked from what is left, or say why not."""
        owner = self._owners.get(claim.consumer_id)
        seen = claim.consumer_generation
        if seen is not msgspec.UNSET and seen != (owner.generation if owner else None):
            return ClaimResult(claim.consumer_id, CHANGED)
        held = self._held.get(claim.consumer_id, {})
        mine = Claim(
            claim.consumer_id, claim.project_id, claim.user_id, claim.allocations, claim.consumer_type
        )  # fmt: skip
        wanted = mine.amounts()
        if refusal := self._refusal(claim.consumer_id, held, wanted):
            return refusal
        if held == wanted and (owner is None or _same_owner(owner, mine)):
            return ClaimResult(claim.consumer_id)  # asked again after a lost answer
        for sign, amounts in ((-1, held), (1, wanted)):
            for key, amount in amounts.items():
                self._used[key] += sign * amount
                self._changed.add(key)
                self._touched.add(key[0])
        self.standing.append(mine)
        return ClaimResult(claim.consumer_id)

    def _refusal(self, consumer_id: str, held: Amounts, wanted: Amounts) -> ClaimResult | None:
        for (provider_id, name), amount in wanted.items():
            if provider_id not in self._locked:
                return ClaimResult(consumer_id, NO_PROVIDER, provider_id)
            book = self._books.get((provider_id, name))
            if book is None:
                return ClaimResult(consumer_id, NO_INVENTORY, provider_id, name, amount)
            mine = held.get((provider_id, name), 0)
            free = book.capacity - self._used[provider_id, name] + mine
            if not book.allows(amount):
                return ClaimResult(consumer_id, BAD_AMOUNT, provider_id, name, amount, max(free, 0))
            if amount > free and amount > mine:
                return ClaimResult(consumer_id, NO_ROOM, provider_id, name, amount, max(free, 0))
        return None

    def write(self, connection: Connection, now: datetime) -> None:
        """All standing claims, in bulk."""
        ids = {claim.consumer_id for claim in self.standing}
        before = {(id_, *key): amount for id_ in ids for key, amount in self._held.get(id_, {}).items()}
        after = {
            (claim.consumer_id, *key): amount for claim in self.standing for key, amount in claim.amounts().items()
        }
        rows.write(connection, before, after)
        used = {key: self._used[key] for key in self._changed}
        touched = {id_: one for id_, one in self._locked.items() if id_ in self._touched}
        rows.use(connection, used, touched, {key[1] for key in after}, now)
        write_owners(connection, self.standing, self._owners, now)


def _same_owner(owner: Consumer, claim: Claim) -> bool:
    return (owner.project_id, owner.user_id, owner.type) == (claim.project_id, claim.user_id, claim.type)
