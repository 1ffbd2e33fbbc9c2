"""Certificates over HTTP: one for the caller, and that of the authority by which others check it.

An extra: today's Nova answers 410 to both; we do when `[compute] certificates` is off. The authority is made when
the first certificate is asked for. It is not the cluster's (`kilonova ca`): no part of the cloud trusts what it signs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kilonova.base.faults import Fault, Kind, not_found
from kilonova.compute.certificate import store
from kilonova.compute.core import Compute
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.policy.personas import PROJECT_MEMBER_OR_ADMIN, PROJECT_READER_OR_ADMIN
from kilonova.policy.rules import Rule

if TYPE_CHECKING:
    from kilonova.pki.authority import Authority

AUTHORITY_NAME = "Kilonova users"


async def create(compute: Compute, request: Request[None]) -> dict[str, Any]:
    """A certificate for the caller on its project, good for a year; its key is in this answer and nowhere else."""
    from kilonova.pki.authority import issue_for_user

    _only_where_offered(compute)
    request.enforce()
    authority, caller = await _authority(compute), request.caller
    now = compute.world.clock.now()
    made = await compute.world.blocking(issue_for_user, authority, (caller.user_id, caller.project_id), now)
    return {"certificate": {"data": made.certificate, "private_key": made.key}}


async def show(compute: Compute, request: Request[None]) -> dict[str, Any]:
    """The certificate of the authority: id `root`."""
    _only_where_offered(compute)
    request.enforce()
    if request.path["certificate_id"] != "root":
        raise not_found("Certificate", request.path["certificate_id"][:64])
    return {"certificate": {"data": (await _authority(compute)).certificate, "private_key": None}}


def _only_where_offered(compute: Compute) -> None:
    if not compute.settings.certificates:
        raise Fault(
            Kind.NOT_FOUND,
            "This resource is no longer available. No forwarding address is given.",
            hint="The cloud's operator has switched certificates off.",
            data={"status": 410},
        )


async def _authority(compute: Compute) -> Authority:
    from kilonova.pki.authority import Authority, new_authority  # a process that is never asked needs no X.509

    row = await compute.db.read(store.find)
    if row is None:
        now = compute.world.clock.now()
        made = await compute.world.blocking(new_authority, AUTHORITY_NAME, now)
        new = store.Row(store.USERS, made.certificate, compute.sealer.seal({"key": made.key}), now)
        row = await _kept(compute, new)
    return Authority(row.certificate, str(compute.sealer.open(row.sealed)["key"]))


async def _kept(compute: Compute, new: store.Row) -> store.Row:
    try:
        return await compute.db.write(store.keep, new)
    except Fault as fault:
        row = await compute.db.read(store.find) if fault.kind is Kind.EXISTS else None
        if row is None:
            raise
        return row


_RULE = "os_compute_api:os-certificates"
_ALL, _ONE = "/os-certificates", "/os-certificates/{certificate_id}"
ROUTES: tuple[Route, ...] = (
    Route(method="POST", path=_ALL, handler=create, policy=f"{_RULE}:create"),
    Route(method="GET", path=_ONE, handler=show, policy=f"{_RULE}:show"),
)
RULES: tuple[Rule, ...] = (
    Rule(f"{_RULE}:create", PROJECT_MEMBER_OR_ADMIN, "Get a certificate", (("POST", _ALL),)),
    Rule(f"{_RULE}:show", PROJECT_READER_OR_ADMIN, "Show the authority's certificate", (("GET", _ONE),)),
)
