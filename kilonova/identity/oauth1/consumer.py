"""Consumers over HTTP: programs that may ask users for the right to act for them. The secret is shown once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, UnsetType

from kilonova.base.faults import invalid
from kilonova.http.request import Request
from kilonova.identity import store
from kilonova.identity.bodies import given
from kilonova.identity.noun import Noun
from kilonova.identity.oauth1.store import Consumer
from kilonova.identity.schema import consumers

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService

PREFIX = "/v3/OS-OAUTH1"
SECRET_BYTES = 32


class CreateConsumer(msgspec.Struct):
    """The body's `consumer`."""

    description: str | None = None


class UpdateConsumer(msgspec.Struct):
    """The body's `consumer`: its secret cannot be changed."""

    description: str | UnsetType | None = UNSET
    secret: Any = UNSET


def _shown(request: Request[Any], one: Consumer) -> dict[str, Any]:
    return {"id": one.id, "description": one.description}


CONSUMERS = Noun("consumer", consumers, Consumer, prefix=PREFIX, shown=_shown)


async def create(service: IdentityService, request: Request[CreateConsumer]) -> dict[str, Any]:
    """A new consumer, with its secret."""
    request.enforce({})
    secret = service.world.ids.secret(SECRET_BYTES)
    made = Consumer(service.world.ids.hex32(), request.body.description, service.sealer.seal({"secret": secret}))
    await service.db.write(store.insert, consumers, made, "The consumer exists already.")
    body = CONSUMERS.body(request, made)
    body["consumer"]["secret"] = secret
    return body


async def update(service: IdentityService, request: Request[UpdateConsumer]) -> dict[str, Any]:
    """Another description."""
    found = await CONSUMERS.load(service, request)
    if request.body.secret is not UNSET:
        raise invalid("Invalid input for field consumer.secret: it cannot be changed; make another consumer.")
    changes = {key: value for key, value in given(request.body).items() if key == "description"}
    await service.db.write(store.change, consumers, found.id, changes)
    return CONSUMERS.body(request, msgspec.structs.replace(found, **changes))


ROUTES = CONSUMERS.routes(create, update, (CreateConsumer, UpdateConsumer))
RULES = CONSUMERS.rules()
