"""POST /reshaper: inventories and allocations of several providers and consumers, changed together or not at all."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.http.schema import convert
from kilonova.placement.allocation.resource import Body, claim_from
from kilonova.placement.core import PlacementService
from kilonova.placement.inventory.resource import Record
from kilonova.placement.reshaper import store
from kilonova.placement.words import ClassName, Generation, rule, uuid_of


class Shape(msgspec.Struct, forbid_unknown_fields=True):
    """All inventories that a provider is to have."""

    resource_provider_generation: Generation
    inventories: dict[ClassName, Record]


class Reshape(msgspec.Struct, forbid_unknown_fields=True):
    """POST /reshaper."""

    inventories: Annotated[dict[str, Shape], msgspec.Meta(min_length=1)]
    allocations: dict[str, Any]


async def reshape(service: PlacementService, request: Request[Reshape]) -> None:
    """Each provider has exactly these inventories, each consumer holds exactly this."""
    request.enforce()
    shapes = {
        uuid_of(id_, "inventories"): store.Shape(
            shape.resource_provider_generation,
            {name: record.checked(request.version, name) for name, record in shape.inventories.items()},
        )
        for id_, shape in request.body.inventories.items()
    }
    claims = [
        claim_from(request, id_, convert(body, Body, request.version, id_[:64]), may_be_empty=True)
        for id_, body in request.body.allocations.items()
    ]
    await service.db.write(store.reshape, shapes, claims, service.now())


ROUTES = (
    Route(
        method="POST",
        path="/reshaper",
        handler=reshape,
        policy="placement:reshaper:reshape",
        body=Reshape,
        since="1.30",
        success=204,
        summary="Move inventories with what is held of them",
    ),
)
RULES = (rule("reshaper:reshape", "POST", "/reshaper", "rule:admin_or_service_api"),)
