"""os-scheduler-decisions and os-scheduler-dry-run: why servers went where they did, and whether more would fit.

An extension of ours, for operators: host names are in it.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from sqlalchemy import Connection

from kilonova.base.clock import iso_seconds
from kilonova.compute.contract import DRY_RUN_MOST, RequestSpec
from kilonova.compute.contract.numa import check_placeable
from kilonova.compute.core import Compute
from kilonova.compute.flavor import store as flavor_store
from kilonova.compute.scheduler import kept
from kilonova.compute.scheduler.resources import resources_of
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.policy.personas import ADMIN
from kilonova.policy.rules import Rule

PAGE_MAXIMUM = 1000


class DryRun(msgspec.Struct, forbid_unknown_fields=True):
    """What would be booted, and how many."""

    flavor: str
    count: Annotated[int, msgspec.Meta(ge=1, le=DRY_RUN_MOST)] = 1
    availability_zone: str = ""
    host: str = ""
    image: str = ""  # its properties count as if such a server booted from it
    image_properties: dict[str, str] = {}
    scheduler_hints: dict[str, Any] = {}


class DryRunBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body."""

    dry_run: DryRun


async def decisions(compute: Compute, request: Request[Any]) -> Answer:
    """GET /os-scheduler-decisions?about=SERVER|REQUEST: newest first."""
    request.enforce()
    about, limit = request.query.get("about") or "", request.query.integer("limit", minimum=1)
    found = await compute.db.read(_found, about, min(limit or 100, PAGE_MAXIMUM))
    return Answer({"decisions": [_shown(one) for one in found]})


def _found(connection: Connection, about: str, limit: int) -> list[kept.Kept]:
    return kept.found(connection, about, "", limit)


def _shown(one: kept.Kept) -> dict[str, Any]:
    return {
        "id": one.id,
        "server_id": one.server_id,
        "request_id": one.request_id,
        "project_id": one.project_id,
        "created_at": iso_seconds(one.created_at),
        "host": one.host or None,
        "message": one.message or None,
        "snapshot": one.snapshot,
        "wanted": one.wanted,
        "left": [{"filter": name, "hosts": left} for name, left in one.counts],
        "best": [{"host": host, "weight": weight} for host, weight in one.best],
        "rejections": msgspec.to_builtins(one.rejections),
    }


async def dry_run(compute: Compute, request: Request[DryRunBody]) -> Answer:
    """POST /os-scheduler-dry-run: how many of `count` fit, on which hosts, and what stops the next. Claims nothing."""
    request.enforce()
    asked, caller = request.body.dry_run, request.caller
    flavor = await compute.db.read(flavor_store.get_flavor, asked.flavor, caller.project_id, admin=True)
    properties = dict(asked.image_properties)
    if asked.image:
        image = await compute.peers.images.show(caller.token, asked.image)
        properties = {**image.properties, "disk_format": image.disk_format, **properties}
    check_placeable(flavor, properties)
    spec = RequestSpec(
        compute.world.ids.uuid(),
        caller.project_id,
        caller.user_id,
        flavor,
        resources_of(flavor, properties, from_volume=False),
        image_properties=properties,
        image_id=asked.image,
        availability_zone=asked.availability_zone,
        requested_host=asked.host,
        scheduler_hints=asked.scheduler_hints,
    )
    fit = await compute.scheduler.could_boot(spec, asked.count)
    body = {
        "fits": fit.fits,
        "count": asked.count,
        "where": fit.where,
        "message": fit.message or None,
        "left": [{"filter": name, "hosts": left} for name, left in fit.counts],
        "rejections": msgspec.to_builtins(fit.rejections),
        "snapshot": fit.snapshot,
    }
    return Answer({"dry_run": body})


_DECISIONS, _DRY_RUN = "os_compute_api:os-scheduler-decisions", "os_compute_api:os-scheduler-dry-run"
ROUTES = (
    Route(method="GET", path="/os-scheduler-decisions", handler=decisions, policy=_DECISIONS),
    Route(method="POST", path="/os-scheduler-dry-run", handler=dry_run, policy=_DRY_RUN, body=DryRunBody),
)
RULES = (
    Rule(_DECISIONS, ADMIN, "Read why the scheduler chose as it did", (("GET", "/os-scheduler-decisions"),)),
    Rule(_DRY_RUN, ADMIN, "Ask where servers would go, without claiming", (("POST", "/os-scheduler-dry-run"),)),
)
