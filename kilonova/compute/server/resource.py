"""The noun: show, list and update servers. Reads look at compute's own rows only and never call another service."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any

import msgspec
from sqlalchemy import Connection

from kilonova.base.faults import invalid
from kilonova.compute.core import Compute
from kilonova.compute.host import store as hosts
from kilonova.compute.server import listing_store, store, views
from kilonova.compute.server.begin import ADMIN as IS_ADMIN
from kilonova.compute.server.begin import load, visible
from kilonova.compute.server.create_checks import checked_ip
from kilonova.compute.server.detail_store import one_as_kept, page_in_bytes
from kilonova.compute.server.list_query import SORTABLE, filters_from
from kilonova.compute.server.names import checked_hostname, checked_name, checked_text
from kilonova.compute.server.store import Server
from kilonova.db.database import bulky
from kilonova.db.listing import Page
from kilonova.http.listing import next_links, page_from
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.http.schema import since
from kilonova.policy.personas import ADMIN, PROJECT_MEMBER_OR_ADMIN, PROJECT_READER_OR_ADMIN
from kilonova.policy.rules import Rule

Page1 = tuple[list[Server], Any, set[str]]


# ── eyes


def eyes_of(request: Request[Any], target: dict[str, Any] | None = None) -> views.Eyes:
    """What this caller may see besides the ordinary, decided once."""
    host_status = ""
    if request.version >= (2, 16):
        if request.allows(_HOST_STATUS, target):
            host_status = "all"
        elif request.version >= (2, 69) and request.allows(_HOST_STATUS_UNKNOWN, target):
            host_status = "unknown_only"
    return views.Eyes(
        origin=request.origin,
        operator=request.allows(_ATTRIBUTES, target),
        host_status=host_status,
        extra_specs=request.version < (2, 47) or request.allows(_EXTRA_SPECS, target),
        fault_details=request.allows(IS_ADMIN, target),
    )


def _with_rest(compute: Compute, eyes: views.Eyes, page: Page1) -> list[views.Shown]:
    found, (tagged, volumes, failed, hints), alive = page
    made = []
    for server in found:
        shown = views.shown_as(server, eyes, alive.__contains__)
        shown.tags = tagged.get(server.id, [])
        shown.volumes = volumes.get(server.id, [])
        shown.fault = failed.get(server.id)
        shown.hints = hints.get(server.id, {})
        made.append(shown)
    return made


def _read_one(connection: Connection, server_id: str, alive_since: datetime, with_hints: bool) -> Page1:
    found = [store.get(connection, server_id)]
    beside = listing_store.beside(connection, [one.id for one in found], with_hints=with_hints)
    return found, beside, hosts.alive(connection, alive_since)


def _alive_since(compute: Compute) -> datetime:
    return compute.world.clock.now() - timedelta(seconds=compute.settings.host_down_seconds)


# ── show


async def show(compute: Compute, request: Request[Any]) -> dict[str, Any]:
    """GET /servers/{id}."""
    if request.version >= (2, 100):
        return {"server": views.one(request.version, await load_shown(compute, request))}
    kept = await compute.db.read(one_as_kept, request.path["server_id"], _alive_since(compute))
    visible(request, kept)
    target = kept.target()
    request.enforce(target)
    return {"server": kept.drawn(views.one, eyes_of(request, target), request.version)}


async def load_shown(compute: Compute, request: Request[Any]) -> views.Shown:
    """The server in the path with everything beside it, when the caller may see it."""
    with_hints = request.version >= (2, 100)
    page = await compute.db.read(_read_one, request.path["server_id"], _alive_since(compute), with_hints)
    server = page[0][0]
    visible(request, server)
    request.enforce(server.target())
    return _with_rest(compute, eyes_of(request, server.target()), page)[0]


# ── list


async def index(compute: Compute, request: Request[Any]) -> dict[str, Any]:
    """GET /servers: ids and names."""
    filters, page = _asked(request, _ALL_PROJECTS)
    if listing_store.sql_says_all(filters):
        names = await compute.db.read(listing_store.names_of, filters, page)
        entries = [{"id": id_, "name": name, "links": views.links(request.origin, id_)} for id_, name in names]
        return {"servers": entries, **next_links(request, "servers", names, page, lambda one: str(one[0]))}
    found = await _listed(compute, request, filters, page, detailed=False)
    return {"servers": [views.SUMMARY.show(request.version, one) for one in found], **_next(request, found, page)}


async def detail(compute: Compute, request: Request[Any]) -> dict[str, Any]:
    """GET /servers/detail."""
    filters, page = _asked(request, _ALL_PROJECTS_DETAIL)
    if listing_store.sql_says_all(filters) and request.version < (2, 100):
        look, since = (eyes_of(request), request.version), _alive_since(compute)
        drawn = await compute.db.read(page_in_bytes, filters, page, look, since, compute.remembered)
        links = next_links(request, "servers", drawn, page, lambda one: str(one[0]))
        return {"servers": [entry for _, entry in drawn], **links}
    found = await _listed(compute, request, filters, page, detailed=True)
    return {"servers": [views.detail(request.version, one) for one in found], **_next(request, found, page)}


def _next(request: Request[Any], found: list[views.Shown], page: Page) -> dict[str, Any]:
    return next_links(request, "servers", found, page, lambda shown: str(shown.server.id))


def _asked(request: Request[Any], all_projects: str) -> tuple[listing_store.Filters, Page]:
    request.enforce()
    return filters_from(request, all_projects), page_from(request.query, sortable=SORTABLE, aliases={"uuid": "id"})


async def _listed(
    compute: Compute, request: Request[Any], filters: listing_store.Filters, page: Page, *, detailed: bool
) -> list[views.Shown]:
    with_hints = detailed and request.version >= (2, 100)
    rows = await compute.db.read(_read_page, filters, page, (detailed, with_hints), _alive_since(compute))
    return _with_rest(compute, eyes_of(request), rows)


@bulky
def _read_page(
    connection: Connection,
    filters: listing_store.Filters,
    page: Page,
    depth: tuple[bool, bool],
    alive_since: datetime,
) -> Page1:
    found = listing_store.page_of(connection, filters, page)
    if not depth[0]:
        return found, ({}, {}, {}, {}), set()
    beside = listing_store.beside(connection, [one.id for one in found], with_hints=depth[1])
    return found, beside, hosts.alive(connection, alive_since)


# ── update


class Update(msgspec.Struct, forbid_unknown_fields=True, rename={"access_ip_v4": "accessIPv4",
             "access_ip_v6": "accessIPv6", "disk_config": "OS-DCF:diskConfig"}):  # fmt: skip
    """{"server": {…}} of PUT /servers/{id}."""

    name: str | None = None
    access_ip_v4: str | msgspec.UnsetType | None = msgspec.UNSET
    access_ip_v6: str | msgspec.UnsetType | None = msgspec.UNSET
    disk_config: str | None = None
    description: Annotated[str | msgspec.UnsetType | None, since("2.19")] = msgspec.UNSET
    hostname: Annotated[str | None, since("2.90")] = None


async def update(compute: Compute, request: Request[Update]) -> Answer:
    """PUT /servers/{id}: name, description, access addresses, host name."""
    server = await load(compute, request)
    values = _changes(request)
    now = compute.world.clock.now()
    await compute.db.write(store.do_at_once, server.id, "update", now, values, admin=request.allows(IS_ADMIN))
    with_hints = request.version >= (2, 100)
    page = await compute.db.read(_read_one, server.id, _alive_since(compute), with_hints)
    shown = _with_rest(compute, eyes_of(request, server.target()), page)[0]
    return Answer({"server": views.changed(request.version, shown)})


def _changes(request: Request[Update]) -> dict[str, Any]:
    body, values = request.body, dict[str, Any]()
    if body.name is not None:
        values["name"] = checked_name(body.name)
    if body.hostname is not None:
        values["hostname"] = checked_hostname(body.hostname, dotted=request.version >= (2, 94))
    if body.description is not msgspec.UNSET:
        values["description"] = checked_text(body.description, "server.description")
    if body.access_ip_v4 is not msgspec.UNSET:
        values["access_ip_v4"] = checked_ip(body.access_ip_v4, 4, "server.accessIPv4")
    if body.access_ip_v6 is not msgspec.UNSET:
        values["access_ip_v6"] = checked_ip(body.access_ip_v6, 6, "server.accessIPv6")
    if body.disk_config is not None:
        if body.disk_config not in ("AUTO", "MANUAL"):
            raise invalid("Invalid input for field server.OS-DCF:diskConfig: use AUTO or MANUAL.")
        values["disk_config"] = body.disk_config
    if not values:
        raise invalid("Invalid input for field server: name at least one thing to change.")
    return values


# ── addresses


async def ips(compute: Compute, request: Request[Any]) -> dict[str, Any]:
    """GET /servers/{id}/ips."""
    server = await load(compute, request)
    return {"addresses": _plain(views.addresses(server))}


async def ips_of_network(compute: Compute, request: Request[Any]) -> dict[str, Any]:
    """GET /servers/{id}/ips/{network}."""
    server = await load(compute, request)
    found = _plain(views.addresses(server))
    label = request.path["label"]
    if label not in found:
        raise store.no_such(f"{server.id} on network {label[:80]}")
    return {label: found[label]}


def _plain(found: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    return {name: [{"version": a["version"], "addr": a["addr"]} for a in known] for name, known in found.items()}


# ── the declaration

_SHOW = "os_compute_api:servers:show"
_INDEX = "os_compute_api:servers:index"
_DETAIL = "os_compute_api:servers:detail"
_ALL_PROJECTS = "os_compute_api:servers:index:get_all_tenants"
_ALL_PROJECTS_DETAIL = "os_compute_api:servers:detail:get_all_tenants"
_UPDATE = "os_compute_api:servers:update"
_ATTRIBUTES = "os_compute_api:os-extended-server-attributes"
_HOST_STATUS = "os_compute_api:servers:show:host_status"
_HOST_STATUS_UNKNOWN = "os_compute_api:servers:show:host_status:unknown-only"
_EXTRA_SPECS = "os_compute_api:servers:show:flavor-extra-specs"
_IPS = "os_compute_api:ips:index"
_IPS_SHOW = "os_compute_api:ips:show"
_ONE = "/servers/{server_id}"
ROUTES = (
    Route(method="GET", path="/servers", handler=index, policy=_INDEX),
    Route(method="GET", path="/servers/detail", handler=detail, policy=_DETAIL),
    Route(method="GET", path=_ONE, handler=show, policy=_SHOW),
    Route(method="PUT", path=_ONE, handler=update, policy=_UPDATE, body=Update, envelope="server"),
    Route(method="GET", path=f"{_ONE}/ips", handler=ips, policy=_IPS),
    Route(method="GET", path=f"{_ONE}/ips/{{label}}", handler=ips_of_network, policy=_IPS_SHOW),
)
RULES = (
    Rule(_SHOW, PROJECT_READER_OR_ADMIN, "Show a server", (("GET", _ONE),)),
    Rule(_INDEX, PROJECT_READER_OR_ADMIN, "List servers", (("GET", "/servers"),)),
    Rule(_DETAIL, PROJECT_READER_OR_ADMIN, "List servers with details", (("GET", "/servers/detail"),)),
    Rule(_ALL_PROJECTS, ADMIN, "List servers of all projects", (("GET", "/servers"),)),
    Rule(_ALL_PROJECTS_DETAIL, ADMIN, "List servers of all projects with details", (("GET", "/servers/detail"),)),
    Rule("os_compute_api:servers:allow_all_filters", ADMIN, "Use every filter of server lists",
         (("GET", "/servers"), ("GET", "/servers/detail"))),
    Rule(_UPDATE, PROJECT_MEMBER_OR_ADMIN, "Update a server", (("PUT", _ONE),)),
    Rule(_ATTRIBUTES, ADMIN, "See on which host a server is, and its internal attributes", (("GET", _ONE),)),
    Rule(_HOST_STATUS, ADMIN, "See the state of a server's host", (("GET", _ONE),)),
    Rule(_HOST_STATUS_UNKNOWN, ADMIN, "See that the state of a server's host is not known", (("GET", _ONE),)),
    Rule(_EXTRA_SPECS, PROJECT_READER_OR_ADMIN, "See the extra specs in a server's flavor", (("GET", _ONE),)),
    Rule(_IPS, PROJECT_READER_OR_ADMIN, "List a server's addresses", (("GET", f"{_ONE}/ips"),)),
    Rule(_IPS_SHOW, PROJECT_READER_OR_ADMIN, "List a server's addresses on a network",
         (("GET", f"{_ONE}/ips/{{network}}"),)),
)  # fmt: skip
