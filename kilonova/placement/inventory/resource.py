"""Inventories over REST: all or one, read, replaced, added, deleted."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from kilonova.base.faults import Fault, Kind, invalid
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.http.versions import Version
from kilonova.placement.contract import Inventory
from kilonova.placement.core import PlacementService
from kilonova.placement.inventory import store
from kilonova.placement.words import MAXIMUM, Amount, ClassName, Generation, dated, rule


class Record(msgspec.Struct, forbid_unknown_fields=True):
    """An inventory as it is sent."""

    total: Amount
    reserved: Annotated[int, msgspec.Meta(ge=0, le=MAXIMUM)] = 0
    min_unit: Amount = 1
    max_unit: Amount = MAXIMUM
    step_size: Amount = 1
    allocation_ratio: Annotated[float, msgspec.Meta(gt=0, le=3.40282e38)] = 1.0
    resource_provider_generation: Generation | None = None

    def checked(self, version: Version, resource_class: str) -> Inventory:
        """The inventory; 400 when more is reserved than there is (before 1.26: all of it)."""
        if self.reserved > self.total or (self.reserved == self.total and version < (1, 26)):
            raise invalid(
                f"Unable to update inventory for {resource_class}: reserved {self.reserved} leaves nothing of total "
                f"{self.total}.",
                hint="Reserve less; from microversion 1.26 on all may be reserved.",
            )
        return Inventory(self.total, self.reserved, self.min_unit, self.max_unit, self.step_size, self.allocation_ratio)


class One(Record, kw_only=True):
    """PUT …/inventories/{resource_class}."""

    resource_provider_generation: Generation


class New(Record, kw_only=True):
    """POST …/inventories."""

    resource_class: ClassName


class All(msgspec.Struct, forbid_unknown_fields=True):
    """PUT …/inventories."""

    resource_provider_generation: Generation
    inventories: dict[ClassName, Record]


def _shown(inventory: Inventory) -> dict[str, Any]:
    return msgspec.structs.asdict(inventory)


def _all(request: Request[Any], books: store.Books) -> Answer:
    provider, inventories = books
    shown = {name: _shown(book) for name, book in inventories.items()}
    body = {"resource_provider_generation": provider.generation, "inventories": shown}
    return dated(request, body, provider.updated_at)


async def index(service: PlacementService, request: Request[Any]) -> Answer:
    """All inventories of a provider."""
    request.enforce()
    return _all(request, await service.db.read(store.of_provider, request.path["uuid"]))


async def replace(service: PlacementService, request: Request[All]) -> Answer:
    """The provider has exactly these inventories."""
    request.enforce()
    body = request.body
    wanted = {name: record.checked(request.version, name) for name, record in body.inventories.items()}
    generation = body.resource_provider_generation
    return _all(request, await service.db.write(store.replace, request.path["uuid"], wanted, generation, service.now()))


async def clear(service: PlacementService, request: Request[Any]) -> None:
    """The provider has no inventory."""
    request.enforce()
    await service.db.write(store.replace, request.path["uuid"], {}, None, service.now())


async def clear_unknown(service: PlacementService, request: Request[Any]) -> None:
    """Before 1.5 all inventories could not be dropped at once."""
    request.enforce()
    raise Fault(Kind.INVALID, "The method DELETE is not allowed for this resource.", data={"status": 405})


async def create(service: PlacementService, request: Request[New]) -> Answer:
    """One more inventory."""
    request.enforce()
    body, id_ = request.body, request.path["uuid"]
    book = body.checked(request.version, body.resource_class)
    generation = body.resource_provider_generation
    provider, made = await service.db.write(store.insert, id_, body.resource_class, book, generation, service.now())
    shown = {"resource_provider_generation": provider.generation, **_shown(made)}
    location = f"{request.origin}/resource_providers/{id_}/inventories/{body.resource_class}"
    return dated(request, shown, provider.updated_at, status=201, location=location)


async def show(service: PlacementService, request: Request[Any]) -> Answer:
    """One inventory of a provider."""
    request.enforce()
    provider, book = await service.db.read(store.one, request.path["uuid"], request.path["resource_class"])
    shown = {"resource_provider_generation": provider.generation, **_shown(book)}
    return dated(request, shown, provider.updated_at)


async def update(service: PlacementService, request: Request[One]) -> Answer:
    """One inventory replaced."""
    request.enforce()
    body, id_, name = request.body, request.path["uuid"], request.path["resource_class"]
    book = body.checked(request.version, name)
    generation = body.resource_provider_generation
    provider, made = await service.db.write(store.update, id_, name, book, generation, service.now())
    return dated(request, {"resource_provider_generation": provider.generation, **_shown(made)}, provider.updated_at)


async def delete(service: PlacementService, request: Request[Any]) -> None:
    """One inventory is gone."""
    request.enforce()
    path = request.path
    await service.db.write(store.delete, path["uuid"], path["resource_class"], service.now())


_ALL = "/resource_providers/{uuid}/inventories"
_ONE = _ALL + "/{resource_class}"
_P = "placement:resource_providers:inventories:"
ROUTES = (
    Route(method="GET", path=_ALL, handler=index, policy=_P + "list", summary="List inventories"),
    Route(method="PUT", path=_ALL, handler=replace, policy=_P + "update", body=All, summary="Replace inventories"),
    Route(method="POST", path=_ALL, handler=create, policy=_P + "create", body=New, success=201, summary="Add one"),
    Route(
        method="DELETE", path=_ALL, handler=clear, policy=_P + "delete", since="1.5", success=204, summary="Drop all"
    ),
    Route(method="DELETE", path=_ALL, handler=clear_unknown, policy=_P + "delete", until="1.4"),
    Route(method="GET", path=_ONE, handler=show, policy=_P + "show", summary="Show an inventory"),
    Route(method="PUT", path=_ONE, handler=update, policy=_P + "update", body=One, summary="Replace an inventory"),
    Route(method="DELETE", path=_ONE, handler=delete, policy=_P + "delete", success=204, summary="Drop an inventory"),
)
RULES = (
    rule("resource_providers:inventories:list", "GET", _ALL),
    rule("resource_providers:inventories:create", "POST", _ALL),
    rule("resource_providers:inventories:show", "GET", _ONE),
    rule("resource_providers:inventories:update", "PUT", _ONE),
    rule("resource_providers:inventories:delete", "DELETE", _ONE),
)
