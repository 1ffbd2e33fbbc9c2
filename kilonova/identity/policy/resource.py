"""Policies over HTTP, and OS-ENDPOINT-POLICY: whom they are for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, UnsetType

from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.identity import answers, store
from kilonova.identity.bodies import given
from kilonova.identity.catalog.resource import ENDPOINTS, REGIONS, SERVICES
from kilonova.identity.noun import Noun
from kilonova.identity.policy import store as policy_store
from kilonova.identity.policy.store import Association, PolicyDocument
from kilonova.identity.rules import ADMIN, READER, SYSTEM_OR_PROJECT, rule
from kilonova.identity.schema import policies

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService


class CreatePolicy(msgspec.Struct):
    """The body's `policy`: any text or object, and its media type."""

    type: str
    blob: Any


class UpdatePolicy(msgspec.Struct):
    """The body's `policy`: what is left out stays."""

    type: str | UnsetType = UNSET
    blob: Any | UnsetType = UNSET


def _shown(request: Request[Any], policy: PolicyDocument) -> dict[str, Any]:
    return msgspec.structs.asdict(policy) | {"blob": msgspec.json.decode(policy.blob)}


POLICIES = Noun("policy", policies, PolicyDocument, "policies", filters=("type",), shown=_shown)


async def create(service: IdentityService, request: Request[CreatePolicy]) -> dict[str, Any]:
    """A new policy document."""
    request.enforce({})
    blob = msgspec.json.encode(request.body.blob).decode()
    policy = PolicyDocument(service.world.ids.hex32(), request.body.type[:255], blob)
    await service.db.write(store.insert, policies, policy, f"Policy {policy.id} exists already.")
    return POLICIES.body(request, policy)


async def update(service: IdentityService, request: Request[UpdatePolicy]) -> dict[str, Any]:
    """Change a policy document."""
    policy = await POLICIES.load(service, request)
    changes = given(request.body)
    if "blob" in changes:
        changes["blob"] = msgspec.json.encode(changes["blob"]).decode()
    await service.db.write(store.change, policies, policy.id, changes)
    return POLICIES.body(request, msgspec.structs.replace(policy, **changes))


async def _association(service: IdentityService, request: Request[Any]) -> tuple[PolicyDocument, Association]:
    """The policy and whom the path means; 404 for what is not there."""
    policy = await POLICIES.load(service, request)
    path = request.path
    for noun, key in ((ENDPOINTS, "endpoint_id"), (SERVICES, "service_id"), (REGIONS, "region_id")):
        if key in path and await noun.find(service, path[key]) is None:
            raise answers.missing(noun.name, path[key])
    return policy, Association(path.get("endpoint_id", ""), path.get("service_id", ""), path.get("region_id", ""))


async def associate(service: IdentityService, request: Request[None]) -> None:
    """The policy is for this endpoint or service, instead of any before."""
    policy, one = await _association(service, request)
    await service.db.write(policy_store.associate, one, policy.id)


async def check_association(service: IdentityService, request: Request[None]) -> None:
    """Whether the policy is for exactly this."""
    policy, one = await _association(service, request)
    if await service.db.read(policy_store.policy_of, one) != policy.id:
        raise answers.missing("policy association", policy.id)


async def dissociate(service: IdentityService, request: Request[None]) -> None:
    """The policy is not for this any more."""
    await check_association(service, request)
    _, one = await _association(service, request)
    await service.db.write(policy_store.dissociate, one)


async def list_endpoints(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """The endpoints whose policy this is in effect."""
    policy = await POLICIES.load(service, request)
    found = await service.db.read(policy_store.endpoints_of, policy.id)
    return answers.collection(request, "endpoints", (ENDPOINTS.view(request, one) for one in found))


async def show_policy_of_endpoint(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """The policy that counts for an endpoint: its own, or its service's."""
    endpoint = await ENDPOINTS.load(service, request)
    policy = await service.db.read(policy_store.effective_policy, endpoint)
    if policy is None:
        raise answers.missing("policy for endpoint", endpoint.id)
    return POLICIES.body(request, policy)


_OF = f"{POLICIES.one}/OS-ENDPOINT-POLICY"
_PLACES = {
    "endpoint": f"{_OF}/endpoints/{{endpoint_id}}",
    "service": f"{_OF}/services/{{service_id}}",
    "region_and_service": f"{_OF}/services/{{service_id}}/regions/{{region_id}}",
}
_EFFECTIVE = f"{ENDPOINTS.one}/OS-ENDPOINT-POLICY/policy"
_VERBS: tuple[tuple[str, str, Callable[..., Awaitable[Any]], str], ...] = (
    ("PUT", "create", associate, ADMIN),
    ("GET", "check", check_association, READER),
    ("DELETE", "delete", dissociate, ADMIN),
)
ROUTES: tuple[Route, ...] = (
    *POLICIES.routes(create, update, (CreatePolicy, UpdatePolicy)),
    Route(method="GET", path=f"{_OF}/endpoints", handler=list_endpoints, policy="identity:list_endpoints_for_policy"),
    Route(method="GET", path=_EFFECTIVE, handler=show_policy_of_endpoint, policy="identity:get_policy_for_endpoint"),
    *(
        Route(
            method=method,
            path=path,
            handler=handler,
            policy=f"identity:{verb}_policy_association_for_{place}",
            success=204,
        )
        for place, path in _PLACES.items()
        for method, verb, handler, _ in _VERBS
    ),
)
RULES = (
    *POLICIES.rules(),
    rule("list_endpoints_for_policy", READER, SYSTEM_OR_PROJECT, ("GET", f"{_OF}/endpoints")),
    rule("get_policy_for_endpoint", READER, SYSTEM_OR_PROJECT, ("GET", _EFFECTIVE)),
    *(
        rule(f"{verb}_policy_association_for_{place}", check, SYSTEM_OR_PROJECT, (method, path))
        for place, path in _PLACES.items()
        for method, verb, _, check in _VERBS
    ),
)
