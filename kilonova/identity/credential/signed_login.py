"""POST /v3/ec2tokens and /v3/s3tokens: a service that got a signed request asks who signed it.

Only services (and administrators) may ask: whoever overheard a signature must not get a token for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from kilonova.base.faults import invalid, unauthenticated
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.http.schema import convert
from kilonova.http.versions import NONE
from kilonova.identity.credential import blob as blobs
from kilonova.identity.credential import store as credential_store
from kilonova.identity.credential.blob import EC2
from kilonova.identity.credential.signature import Signed, is_timely, matches
from kilonova.identity.rules import ANYWHERE, rule
from kilonova.identity.token.delegated import delegated_login

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService

_NOBODYS = "nobody has this secret: unknown keys cost as much as wrong signatures"


class SignedBody(msgspec.Struct, rename={"older": "ec2Credentials"}):
    """The body: `credentials`, or as older clients write it `ec2Credentials`."""

    credentials: dict[str, Any] | None = None
    older: dict[str, Any] | None = None


async def create(service: IdentityService, request: Request[SignedBody]) -> Answer:
    """The token of who signed the request; 401 when nobody known did, or too long ago."""
    request.enforce({})
    described = request.body.credentials or request.body.older
    if not described:
        raise invalid("Invalid input for field credentials: describe the signed request.")
    signed = convert(described, Signed, NONE, "credentials")
    found = await service.db.read(credential_store.find, blobs.access_hash(signed.access))
    keys = blobs.keys_in(blobs.blob_of(service, found)) if found and found.type == EC2 else {"secret": _NOBODYS}
    right = matches(keys["secret"], signed)
    if found is None or found.type != EC2 or not right or not is_timely(signed, service.world.clock.now()):
        raise unauthenticated(inside="unknown access key, wrong signature, or signed too long ago")
    payload = await delegated_login(service, found.user_id, found.project_id or "", keys)
    token, made = await service.tokens.issue(payload)
    return Answer(made.full, headers={"X-Subject-Token": token, "Vary": "X-Auth-Token"})


def _route(path: str, name: str) -> Route:
    return Route(method="POST", path=path, handler=create, policy=f"identity:{name}", body=SignedBody)


ROUTES = (_route("/v3/ec2tokens", "validate_ec2_signature"), _route("/v3/s3tokens", "validate_s3_signature"))
RULES = (
    rule("validate_ec2_signature", "rule:service_or_admin", ANYWHERE, ("POST", "/v3/ec2tokens")),
    rule("validate_s3_signature", "rule:service_or_admin", ANYWHERE, ("POST", "/v3/s3tokens")),
)
