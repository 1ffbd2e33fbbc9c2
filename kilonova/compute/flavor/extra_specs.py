"""Extra specs of flavors: keys and values that the scheduler and the hypervisor understand."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from kilonova.base.faults import invalid
from kilonova.compute.core import Compute
from kilonova.compute.flavor import store
from kilonova.compute.flavor.resource import EXTRA_SPECS_SEEN, load
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.policy.personas import ADMIN, PROJECT_READER_OR_ADMIN
from kilonova.policy.rules import Rule

_KEY = re.compile(r"[a-zA-Z0-9-_:. ]{1,255}\Z")


class SetExtraSpecs(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a POST: these are set, others stay."""

    extra_specs: dict[str, str | int | float]


def _checked(specs: dict[str, Any]) -> dict[str, str]:
    for key, value in specs.items():
        if not _KEY.match(key):
            raise invalid(f"Invalid input for field/attribute extra_specs: {key[:80]!r} cannot be a key.")
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise invalid(f"Invalid input for field/attribute {key}. Value: {value!r:.80}. It is not a string.")
        if len(str(value)) > 255:
            raise invalid(f"Invalid input for field/attribute {key}: longer than 255 characters.")
    return {key: str(value) for key, value in specs.items()}


async def index(compute: Compute, request: Request[None]) -> dict[str, Any]:
    """All extra specs of a flavor."""
    flavor = await load(compute, request)
    request.enforce()
    return {"extra_specs": flavor.extra_specs}


async def create(compute: Compute, request: Request[SetExtraSpecs]) -> dict[str, Any]:
    """Extra specs set, each as it was given."""
    request.enforce()
    specs = _checked(request.body.extra_specs)
    flavor = await load(compute, request)
    await compute.db.write(store.set_extra_specs, flavor.id, specs)
    return {"extra_specs": specs}


async def show(compute: Compute, request: Request[None]) -> dict[str, Any]:
    """One extra spec as {key: value}."""
    flavor, key = await load(compute, request), request.path["key"]
    request.enforce()
    if key not in flavor.extra_specs:
        raise store.no_extra_spec(flavor.id, key)
    return {key: flavor.extra_specs[key]}


async def update(compute: Compute, request: Request[Any]) -> dict[str, Any]:
    """One extra spec set; the body's only key must be the path's."""
    request.enforce()
    key = request.path["key"]
    try:
        body = msgspec.json.decode(await request.read())
    except msgspec.DecodeError as error:
        raise invalid(f"The request body is not valid JSON: {error}.") from None
    if not isinstance(body, dict) or list(body) != [key]:
        raise invalid("Request body and URI mismatch", hint=f"Send exactly the key {key[:80]!r}.")
    specs = _checked(body)
    flavor = await load(compute, request)
    await compute.db.write(store.set_extra_specs, flavor.id, specs)
    return dict(specs)


async def delete(compute: Compute, request: Request[None]) -> Answer:
    """One extra spec is gone."""
    request.enforce()
    flavor = await load(compute, request)
    await compute.db.write(store.drop_extra_spec, flavor.id, request.path["key"])
    return Answer(None)


_NAME = "os_compute_api:os-flavor-extra-specs"
_ALL = "/flavors/{flavor_id}/os-extra_specs"
_ONE = _ALL + "/{key}"
ROUTES: tuple[Route, ...] = (
    Route(method="GET", path=_ALL, handler=index, policy=EXTRA_SPECS_SEEN),
    Route(method="POST", path=_ALL, handler=create, policy=f"{_NAME}:create", body=SetExtraSpecs),
    Route(method="GET", path=_ONE, handler=show, policy=f"{_NAME}:show"),
    Route(method="PUT", path=_ONE, handler=update, policy=f"{_NAME}:update", raw=True),
    Route(method="DELETE", path=_ONE, handler=delete, policy=f"{_NAME}:delete"),
)
_READS = (("GET", _ALL), ("GET", "/flavors/detail"), ("GET", "/flavors/{flavor_id}"), ("POST", "/flavors"))
RULES: tuple[Rule, ...] = (
    Rule(EXTRA_SPECS_SEEN, PROJECT_READER_OR_ADMIN, "See a flavor's extra specs", _READS),
    Rule(f"{_NAME}:show", PROJECT_READER_OR_ADMIN, "See one extra spec", (("GET", _ONE),)),
    Rule(f"{_NAME}:create", ADMIN, "Set extra specs", (("POST", _ALL),)),
    Rule(f"{_NAME}:update", ADMIN, "Set one extra spec", (("PUT", _ONE),)),
    Rule(f"{_NAME}:delete", ADMIN, "Delete one extra spec", (("DELETE", _ONE),)),
)
