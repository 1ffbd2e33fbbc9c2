"""Placement's contract over REST: works in process and over HTTP. Races are retried here, so that callers see none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

import msgspec

from kilonova.base.faults import Fault, Kind, busy, not_found
from kilonova.base.world import World
from kilonova.http.client import Client
from kilonova.placement.contract import (
    Candidates,
    Changes,
    Claimed,
    ClaimRequest,
    ClaimResult,
    HeldBooks,
    Inventory,
    ProviderSummary,
)
from kilonova.placement.words import CONCURRENT_UPDATE, DUPLICATE_NAME

T = TypeVar("T")
TRIES: Final = 10
_VERSION: Final = {"openstack-api-version": "placement 1.39"}
_MAXIMUM_CANDIDATES: Final = 1000


class PlacementClient:
    """Implements `contract.Placement` with the token of `token()`, a service's own."""

    def __init__(self, client: Client, token: Callable[[], Awaitable[str]], world: World) -> None:
        self._client = client
        self._token = token
        self._world = world

    async def _ask(self, method: str, path: str, json: Any = None, **query: str) -> Any:
        reply = await self._client.request(
            method, path, token=await self._token(), json=json, query=query or None, headers=_VERSION
        )
        return reply.json()

    async def changes(self, since: str) -> Changes:
        """What changed in the books after `since`."""
        query = {"since": since} if since else None
        reply = await self._client.request(
            "GET", "/changes", token=await self._token(), query=query, headers=_VERSION
        )  # fmt: skip
        return _changes.decode(reply.content)

    async def claim_many(self, claims: Sequence[ClaimRequest]) -> list[ClaimResult]:
        """Each claim stands or fails alone. At most 1000."""
        return await self._retried(lambda: self._claim_many({"claims": claims}))

    async def claim_as_known(
        self, position: str, claims: Sequence[ClaimRequest], *, even_if_changed: bool = False
    ) -> Claimed:
        """`claim_many`, when nothing happened to the books after `position` or `even_if_changed`."""
        body = {"claims": claims, "since": position, "even_if_changed": even_if_changed}
        return await self._retried(lambda: self._claim_as_known(body))

    async def _claim_many(self, body: dict[str, Any]) -> list[ClaimResult]:
        return _results.decode(await self._post_claims(body)).results

    async def _claim_as_known(self, body: dict[str, Any]) -> Claimed:
        return _claimed.decode(await self._post_claims(body))

    async def _post_claims(self, body: dict[str, Any]) -> bytes:
        reply = await self._client.request("POST", "/claims", token=await self._token(), json=body, headers=_VERSION)
        return reply.content

    async def ensure_provider(
        self, provider_id: str, name: str, inventories: dict[str, Inventory], traits: list[str]
    ) -> None:
        """The provider exists with exactly these inventories and traits. Nothing is written when it already does."""
        await self._retried(lambda: self._ensure_provider(provider_id, name, inventories, sorted(set(traits))))

    async def _ensure_provider(
        self, provider_id: str, name: str, inventories: dict[str, Inventory], traits: list[str]
    ) -> None:
        path = f"/resource_providers/{provider_id}"
        held = await self._books(provider_id)
        if held is None:
            try:
                await self._ask("POST", "/resource_providers", {"uuid": provider_id, "name": name})
            except Fault as fault:
                if fault.code != DUPLICATE_NAME or await self._found("GET", path) is None:
                    raise
        elif held.name != name:
            await self._ask("PUT", path, {"name": name})
        if held is None or held.name != name:
            held = await self._books(provider_id)
        if held is None:  # somebody deleted it just now
            raise not_found("Resource provider", provider_id)
        generation = held.generation
        if held.inventories != inventories:
            body = {"inventories": inventories, "resource_provider_generation": generation}
            generation = (await self._ask("PUT", f"{path}/inventories", body))["resource_provider_generation"]
        if held.traits != traits:
            for custom in {trait for trait in traits if trait.startswith("CUSTOM_")} - set(held.traits):
                await self._ask("PUT", f"/traits/{custom}")
            await self._ask("PUT", f"{path}/traits", {"traits": traits, "resource_provider_generation": generation})

    async def _books(self, provider_id: str) -> HeldBooks | None:
        try:
            reply = await self._client.request(
                "GET", f"/books/{provider_id}", token=await self._token(), headers=_VERSION
            )  # fmt: skip
        except Fault as fault:
            if fault.kind is Kind.NOT_FOUND:
                return None
            raise
        return _held.decode(reply.content)

    async def providers(self) -> list[ProviderSummary]:
        """All providers with capacity and use: three requests per provider, for explaining only."""
        made = []
        for shown in (await self._ask("GET", "/resource_providers"))["resource_providers"]:
            path = f"/resource_providers/{shown['uuid']}"
            books = msgspec.convert(
                (await self._ask("GET", f"{path}/inventories"))["inventories"], dict[str, Inventory]
            )
            used = (await self._ask("GET", f"{path}/usages"))["usages"]
            traits = (await self._ask("GET", f"{path}/traits"))["traits"]
            capacity = {n: int((b.total - b.reserved) * b.allocation_ratio) for n, b in books.items()}
            made.append(
                ProviderSummary(shown["uuid"], shown["name"], shown["generation"], capacity, used, tuple(traits))
            )
        return made

    async def candidates(self, resources: dict[str, int], required: list[str], forbidden: list[str]) -> Candidates:
        """Providers that have room now, at most 1000. Names and generations are not told here: "" and 0."""
        query = {"resources": ",".join(f"{name}:{amount}" for name, amount in resources.items() if amount)}
        if traits := ",".join([*required, *(f"!{trait}" for trait in forbidden)]):
            query["required"] = traits
        query["limit"] = str(_MAXIMUM_CANDIDATES)
        reply = await self._client.request(
            "GET", "/allocation_candidates", token=await self._token(), query=query, headers=_VERSION
        )
        answer = _candidates.decode(reply.content)
        chosen = [id_ for request in answer.allocation_requests for id_ in request.allocations]
        return Candidates(tuple(_summary(id_, answer.provider_summaries[id_]) for id_ in chosen))

    async def claim(
        self, consumer_id: str, provider_id: str, resources: dict[str, int], project_id: str, user_id: str
    ) -> bool:
        """Allocate for the consumer, replacing what it held. False: no longer enough room."""
        wanted = {name: amount for name, amount in resources.items() if amount}
        body = {
            "allocations": {provider_id: {"resources": wanted}},
            "project_id": project_id,
            "user_id": user_id,
            "consumer_type": "INSTANCE",
        }
        return await self._retried(lambda: self._claim(consumer_id, body))

    async def _claim(self, consumer_id: str, body: dict[str, Any]) -> bool:
        path = f"/allocations/{consumer_id}"
        generation = (await self._ask("GET", path)).get("consumer_generation")
        try:
            await self._ask("PUT", path, {**body, "consumer_generation": generation})
        except Fault as fault:
            if fault.kind is Kind.CONFLICT and fault.code != CONCURRENT_UPDATE:
                return False
            raise
        return True

    async def move(self, from_id: str, to_id: str, to_type: str) -> None:
        """`to_id` holds exactly what `from_id` held, which holds nothing."""
        await self._retried(lambda: self._move(from_id, to_id, to_type))

    async def _move(self, from_id: str, to_id: str, to_type: str) -> None:
        held = await self._ask("GET", f"/allocations/{from_id}")
        if not held["allocations"]:
            return
        there = await self._ask("GET", f"/allocations/{to_id}")
        owner = {"project_id": held["project_id"], "user_id": held["user_id"]}
        parts = {id_: {"resources": part["resources"]} for id_, part in held["allocations"].items()}
        emptied = {"allocations": {}, **owner, "consumer_generation": held["consumer_generation"]}
        filled = {"allocations": parts, **owner, "consumer_generation": there.get("consumer_generation")}
        body = {
            from_id: {**emptied, "consumer_type": held["consumer_type"]},
            to_id: {**filled, "consumer_type": to_type},
        }
        await self._ask("POST", "/allocations", body)

    async def release(self, consumer_id: str) -> None:
        """The consumer holds nothing."""
        await self._found("DELETE", f"/allocations/{consumer_id}")

    async def allocations(self, consumer_id: str) -> dict[str, dict[str, int]]:
        """provider id → resources."""
        held = (await self._ask("GET", f"/allocations/{consumer_id}"))["allocations"]
        return {provider_id: part["resources"] for provider_id, part in held.items()}

    async def consumers_on(self, provider_id: str) -> list[str]:
        """Consumers with allocations on the provider; none when it is unknown."""
        held = await self._found("GET", f"/resource_providers/{provider_id}/allocations")
        return sorted(held["allocations"]) if held else []

    async def _found(self, method: str, path: str) -> Any:
        """The answer, or None when there is no such thing."""
        try:
            return await self._ask(method, path)
        except Fault as fault:
            if fault.kind is Kind.NOT_FOUND:
                return None
            raise

    async def _retried(self, work: Callable[[], Awaitable[T]]) -> T:
        """What `work` returns, read and tried again while somebody else changes the same thing at once."""
        for attempt in range(TRIES):
            try:
                return await work()
            except Fault as fault:
                if fault.kind is not Kind.CONFLICT or fault.code != CONCURRENT_UPDATE:
                    raise
            await self._world.clock.sleep(self._world.random.random() * 0.01 * 2 ** min(attempt, 5))
        raise busy("Placement changes too quickly.", inside=f"{TRIES} generation conflicts in a row")


class _Book(msgspec.Struct, gc=False):
    capacity: int
    used: int


class _Summary(msgspec.Struct, gc=False):
    resources: dict[str, _Book]
    traits: tuple[str, ...]


class _Request(msgspec.Struct, gc=False):
    allocations: dict[str, msgspec.Raw]


class _Candidates(msgspec.Struct):
    """An answer of /allocation_candidates, as far as it is used: a thousand providers make no thousand dicts."""

    allocation_requests: list[_Request]
    provider_summaries: dict[str, _Summary]


class _Results(msgspec.Struct):
    results: list[ClaimResult]


_changes: Final = msgspec.json.Decoder(Changes)
_results: Final = msgspec.json.Decoder(_Results)
_claimed: Final = msgspec.json.Decoder(Claimed)
_held: Final = msgspec.json.Decoder(HeldBooks)
_candidates: Final = msgspec.json.Decoder(_Candidates)


def _summary(id_: str, shown: _Summary) -> ProviderSummary:
    capacity = {name: book.capacity for name, book in shown.resources.items()}
    used = {name: book.used for name, book in shown.resources.items()}
    return ProviderSummary(id_, "", 0, capacity, used, shown.traits)
