"""GET /v3/OS-REVOKE/events: what was revoked, for services that validate tokens by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kilonova.base.clock import iso_micros_z
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.identity import answers
from kilonova.identity.bodies import moment_of
from kilonova.identity.rules import SYSTEM_OR_PROJECT, rule
from kilonova.identity.token import revocation_store
from kilonova.identity.token.revocation_store import Revocation

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService

_KEYS = {
    "token": "audit_id",
    "chain": "audit_chain_id",
    "user": "user_id",
    "project": "project_id",
    "domain": "domain_id",
}


def _show(one: Revocation) -> dict[str, Any]:
    return {_KEYS[one.kind]: one.value, "issued_before": iso_micros_z(one.revoked_at)}


async def list_(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """Revocations that still concern a token, those after `since` when it is given."""
    request.enforce({})
    text = request.query.get("since")
    since = moment_of(text, "since") if text else None
    found = await service.db.read(revocation_store.listed, since)
    return answers.collection(request, "events", (_show(one) for one in found))


_PATH = "/v3/OS-REVOKE/events"
ROUTES = (Route(method="GET", path=_PATH, handler=list_, policy="identity:list_revoke_events"),)
RULES = (rule("list_revoke_events", "rule:service_or_admin", SYSTEM_OR_PROJECT, ("GET", _PATH)),)
