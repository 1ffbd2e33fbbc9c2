"""What moves servers to other flavors or hosts, and how far it is: /os-migrations, for operators."""

from __future__ import annotations

import zlib
from datetime import UTC, datetime
from typing import Any

from kilonova.base.clock import iso_micros
from kilonova.base.faults import invalid
from kilonova.compute.core import Compute
from kilonova.compute.server import migration_store
from kilonova.compute.server.migration_store import Filters, Migration
from kilonova.db.listing import Page
from kilonova.http.fields import Field, View
from kilonova.http.listing import next_links
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.policy.personas import ADMIN
from kilonova.policy.rules import Rule

_F = Field[Migration]
_VIEW = View[Migration](
    _F("id", lambda m: m.number),
    _F("uuid", lambda m: m.id, since="2.59"),
    _F("instance_uuid", lambda m: m.server_id),
    _F("status", lambda m: m.status),
    _F("migration_type", lambda m: m.type, since="2.23"),
    _F("source_compute", lambda m: m.source_host),
    _F("source_node", lambda m: m.source_node),
    _F("dest_compute", lambda m: m.target_host),
    _F("dest_node", lambda m: m.target_node),
    _F("dest_host", lambda m: m.target_ip or None),
    _F("old_instance_type_id", lambda m: _number(m.old_flavor["id"])),
    _F("new_instance_type_id", lambda m: _number(m.new_flavor["id"])),
    _F("created_at", lambda m: iso_micros(m.created_at)),
    _F("updated_at", lambda m: iso_micros(m.updated_at)),
    _F("user_id", lambda m: m.user_id, since="2.80"),
    _F("project_id", lambda m: m.project_id, since="2.80"),
)
_QUERY = {"status", "host", "instance_uuid", "source_compute", "migration_type", "hidden"}
_PAGED = {"limit", "marker", "changes-since"}


async def index(compute: Compute, request: Request[Any]) -> dict[str, Any]:
    """GET /os-migrations: paged from 2.59, newest first from then on too."""
    request.enforce()
    filters, page = _filters(request), _page(request)
    found = await compute.db.read(migration_store.listed, filters, page)
    answer: dict[str, Any] = {"migrations": [_VIEW.show(request.version, one) for one in found]}
    if request.version >= (2, 59):
        answer |= next_links(request, "migrations", found, page, lambda one: str(one.id))
    return answer


def _filters(request: Request[Any]) -> Filters:
    query, version = request.query, request.version
    known = _QUERY | (_PAGED if version >= (2, 59) else set())
    known |= {"changes-before"} if version >= (2, 66) else set()
    known |= {"user_id", "project_id"} if version >= (2, 80) else set()
    if unknown := sorted({key for key, _ in query.pairs} - known) if version >= (2, 59) else []:
        raise invalid(f"Additional properties are not allowed ({unknown[0][:40]!r} was unexpected)")
    wanted = Filters(
        status=query.get("status"),
        host=query.get("host"),
        server_id=query.get("instance_uuid"),
        source_host=query.get("source_compute"),
        type=query.get("migration_type"),
    )
    if version >= (2, 59):
        wanted.since = _moment(query.get("changes-since"), "changes-since")
    if version >= (2, 66):
        wanted.before = _moment(query.get("changes-before"), "changes-before")
        if wanted.since and wanted.before and wanted.since > wanted.before:
            raise invalid("The value of changes-since must be less than or equal to changes-before.")
    if version >= (2, 80):
        wanted.user_id, wanted.project_id = query.get("user_id"), query.get("project_id")
    return wanted


def _page(request: Request[Any]) -> Page:
    if request.version < (2, 59):
        return Page(None, None, (("created_at", "desc"), ("id", "desc")))
    limit = request.query.integer("limit")
    limit = 1000 if limit is None else min(limit, 1000)
    return Page(limit, request.query.get("marker") or None, (("created_at", "desc"), ("id", "desc")))


def _moment(text: str | None, name: str) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise invalid(f"Invalid input for query parameter {name}: {text[:40]!r} is not a time.") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _number(flavor_id: str) -> int:
    """OpenStack tells its own row numbers of flavors here, which nothing else shows. Ours have none: a number that is
    always the same for a flavor, its id where that is one."""
    return int(flavor_id) if flavor_id.isascii() and flavor_id.isdigit() else zlib.crc32(flavor_id.encode())


_INDEX = "os_compute_api:os-migrations:index"
_PATH = "/os-migrations"
ROUTES = (Route(method="GET", path=_PATH, handler=index, policy=_INDEX),)
RULES = (Rule(_INDEX, ADMIN, "List migrations", (("GET", _PATH),)),)
