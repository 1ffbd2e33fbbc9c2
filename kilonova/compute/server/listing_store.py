"""Lists of servers: which ones a request asks for, in which order, and what stands beside them, in few queries."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import invalid
from kilonova.compute.server import states
from kilonova.compute.server.store import (
    Server,
    ServerFault,
    as_server,
    devices,
    faults,
    servers,
    specs,
    tags,
)
from kilonova.db.listing import Page, paged
from kilonova.db.statements import Statement

REGEX_LONGEST = 255
SCANNED_MOST = 20_000


class Filters(msgspec.Struct):
    """What a list is narrowed to; None and empty are no filter. Equalities are (column, value)."""

    project_id: str | None = None
    equal: list[tuple[str, Any]] = []
    any_of: list[tuple[str, list[Any]]] = []
    status: str | None = None
    name: str | None = None  # a regular expression, as Compute's API has it
    ip: str | None = None  # the same, over addresses
    ip6: str | None = None
    tags: list[str] = []
    tags_any: list[str] = []
    not_tags: list[str] = []
    not_tags_any: list[str] = []
    changed_since: datetime | None = None
    changed_before: datetime | None = None
    deleted: bool | None = False  # None: both
    metadata: dict[str, str] = {}
    flavor: str | None = None
    never: bool = False  # a filter that no server passes


SORT_COLUMNS = {
    "id": servers.c.id,
    "uuid": servers.c.id,
    "created_at": servers.c.created_at,
    "updated_at": servers.c.updated_at,
    "launched_at": sa.func.coalesce(servers.c.launched_at, servers.c.created_at),
    "display_name": servers.c.name,
    "display_description": sa.func.coalesce(servers.c.description, ""),
    "host": servers.c.host,
    "hostname": servers.c.hostname,
    "image_ref": servers.c.image_id,
    "instance_type_id": servers.c.vcpus,
    "key_name": servers.c.key_name,
    "launch_index": servers.c.launch_index,
    "locked": servers.c.locked,
    "locked_by": servers.c.locked_by,
    "node": servers.c.node,
    "power_state": servers.c.power_state,
    "progress": servers.c.progress,
    "project_id": servers.c.project_id,
    "task_state": servers.c.task_state,
    "user_id": servers.c.user_id,
    "vm_state": servers.c.vm_state,
    "availability_zone": servers.c.availability_zone,
    "root_device_name": servers.c.root_device_name,
    "config_drive": servers.c.config_drive,
    "access_ip_v4": servers.c.access_ip_v4,
    "access_ip_v6": servers.c.access_ip_v6,
    "auto_disk_config": servers.c.disk_config,
    "terminated_at": sa.func.coalesce(servers.c.terminated_at, servers.c.created_at),
}


_AS_TEXT: list[sa.ColumnElement[Any]] = [
    sa.type_coerce(c, sa.Text).label(c.name) if isinstance(c.type, sa.JSON) else c for c in servers.c
]
_JSON = [position for position, column in enumerate(servers.c) if isinstance(column.type, sa.JSON)]


def as_text() -> list[sa.ColumnElement[Any]]:
    """A server's columns, JSON as it is stored: for who reads it later, or not at all."""
    return _AS_TEXT


class _Reader:
    """Rows to records; equal JSON texts (a flavor, no metadata) are read once per page and shared: do not change."""

    def __init__(self) -> None:
        self._known: dict[str, Any] = {}

    def server(self, row: Sequence[Any]) -> Server:
        values = list(row)
        for position in _JSON:
            text = values[position]
            if isinstance(text, str):
                if text not in self._known:
                    self._known[text] = msgspec.json.decode(text)
                values[position] = self._known[text]
        return as_server(values)


def page_of(connection: Connection, filters: Filters, page: Page) -> list[Server]:
    """The servers of one page. Regular expressions are tried here, page after page, until the page is full."""
    if filters.never:
        return []
    read, chosen = _Reader(), sa.select(*_AS_TEXT)
    matches = _matcher(filters)
    if matches is None:
        return [read.server(row) for row in connection.execute(narrowed_page(connection, chosen, filters, page))]
    unlimited = msgspec.structs.replace(page, limit=SCANNED_MOST)
    rows = connection.execute(narrowed_page(connection, chosen, filters, unlimited))
    made: list[Server] = []
    for row in rows:
        server = read.server(row)
        if matches(server):
            made.append(server)
            if page.limit is not None and len(made) == page.limit:
                rows.close()
                break
    return made


def names_of(connection: Connection, filters: Filters, page: Page) -> list[tuple[str, str]]:
    """(id, name) of the servers of a page that SQL alone can choose."""
    chosen = narrowed_page(connection, sa.select(servers.c.id, servers.c.name), filters, page)
    return [(row[0], row[1]) for row in connection.execute(chosen)]


def narrowed_page(connection: Connection, chosen: sa.Select[Any], filters: Filters, page: Page) -> sa.Select[Any]:
    """`chosen` of servers, narrowed by all filters that SQL can say, in order, one page."""
    visible = servers.c.project_id == filters.project_id if filters.project_id else None
    return paged(connection, _where(chosen, filters), SORT_COLUMNS, page, marker_filter=visible)


def sql_says_all(filters: Filters) -> bool:
    """Whether no server has to be looked at to choose it."""
    return not filters.never and _matcher(filters) is None


def _where(statement: sa.Select[Any], filters: Filters) -> sa.Select[Any]:
    s = servers.c
    if filters.project_id:
        statement = statement.where(s.project_id == filters.project_id)
    for column, value in filters.equal:
        statement = statement.where(s[column] == value)
    for column, values in filters.any_of:
        statement = statement.where(s[column].in_(values))
    if filters.status is not None:
        statement = statement.where(_has_status(filters.status))
    if filters.changed_since is not None:
        statement = statement.where(s.updated_at >= filters.changed_since)
    if filters.changed_before is not None:
        statement = statement.where(s.updated_at <= filters.changed_before)
    if filters.deleted is False and filters.status != "SOFT_DELETED":
        statement = statement.where(s.vm_state != states.SOFT_DELETED)
    if filters.deleted is not None:
        statement = statement.where(s.deleted_at.is_not(None) if filters.deleted else s.deleted_at.is_(None))
    return _where_tagged(statement, filters)


def _where_tagged(statement: sa.Select[Any], filters: Filters) -> sa.Select[Any]:
    for tag in filters.tags:
        statement = statement.where(_tagged([tag]))
    if filters.tags_any:
        statement = statement.where(_tagged(filters.tags_any))
    if filters.not_tags:
        statement = statement.where(sa.not_(sa.and_(*(_tagged([tag]) for tag in filters.not_tags))))
    if filters.not_tags_any:
        statement = statement.where(sa.not_(_tagged(filters.not_tags_any)))
    return statement


def _tagged(any_of: list[str]) -> sa.ColumnElement[bool]:
    return servers.c.id.in_(sa.select(tags.c.server_id).where(tags.c.tag.in_(any_of)))


def _has_status(status: str) -> sa.ColumnElement[bool]:
    """The combinations of vm_state and task_state that show as `status`; none: nothing matches."""
    cases = []
    for vm_state, tasks in states.states_of(status):
        same = servers.c.vm_state == vm_state
        other = servers.c.task_state.not_in(states.special_tasks(vm_state))
        cases.append(sa.and_(same, other if tasks == [""] else servers.c.task_state.in_(tasks)))
    return sa.or_(sa.false(), *cases)


def _matcher(filters: Filters) -> Any:
    """A test over records for what SQL cannot say, or None when there is nothing to test."""
    name, ip, ip6 = (_pattern(text) for text in (filters.name, filters.ip, filters.ip6))
    if not (name or ip or ip6 or filters.metadata or filters.flavor):
        return None

    def matches(server: Server) -> bool:
        if name and not name.search(server.name):
            return False
        if filters.metadata and not filters.metadata.items() <= server.metadata.items():
            return False
        if filters.flavor and server.flavor["id"] != filters.flavor:
            return False
        found = [fixed["address"] for port in server.ports for fixed in port["fixed_ips"]]
        found += [floating for port in server.ports for floating, _ in port.get("floating", ())]
        if ip and not any(ip.search(one) for one in found if ":" not in one):
            return False
        return not ip6 or any(ip6.search(one) for one in found if ":" in one)

    return matches


_NESTED = re.compile(r"\([^)]*[+*{][^)]*\)\s*[+*{]|(\.\*.*){4}")


def _pattern(text: str | None) -> re.Pattern[str] | None:
    """A regular expression that ends soon: short, and without repetition of repetition."""
    if not text:
        return None
    if len(text) > REGEX_LONGEST or _NESTED.search(text):
        raise invalid(
            f"The expression {text[:40]!r} is too long or repeats repetitions.", hint="Use a simpler expression."
        )
    try:
        return re.compile(text, re.IGNORECASE)
    except re.error as error:
        raise invalid(f"The expression {text[:40]!r} cannot be read: {error}.") from None


# ── what stands beside a page of servers


_IDS: sa.BindParameter[str] = sa.bindparam("ids", expanding=True)
_TAGS = Statement(sa.select(tags.c.server_id, tags.c.tag).where(tags.c.server_id.in_(_IDS)).order_by(tags.c.tag))
_VOLUMES = Statement(
    sa.select(devices.c.server_id, devices.c.volume_id, devices.c.delete_on_termination)
    .where(devices.c.server_id.in_(_IDS), devices.c.volume_id != "")
    .order_by(devices.c.position)
)
_FAULTS = Statement(
    sa.select(faults.c.server_id, faults.c.code, faults.c.message, faults.c.details, faults.c.created_at).where(
        faults.c.server_id.in_(_IDS)
    )
)
_SPECS = Statement(sa.select(specs.c.server_id, specs.c.spec).where(specs.c.server_id.in_(_IDS)))


def beside(
    connection: Connection, ids: list[str], *, with_hints: bool = False
) -> tuple[dict[str, list[str]], dict[str, list[tuple[str, bool]]], dict[str, ServerFault], dict[str, Any]]:
    """(tags, volumes, faults, scheduler hints), each by server id, each read in one query."""
    tagged: dict[str, list[str]] = {}
    volumes: dict[str, list[tuple[str, bool]]] = {}
    failed: dict[str, ServerFault] = {}
    hints: dict[str, Any] = {}
    for part in (ids[start : start + 500] for start in range(0, len(ids), 500)):
        for server_id, tag in _TAGS.all(connection, ids=part):
            tagged.setdefault(server_id, []).append(tag)
        for server_id, volume_id, goes_too in _VOLUMES.all(connection, ids=part):
            volumes.setdefault(server_id, []).append((volume_id, goes_too))
        for server_id, *fault in _FAULTS.all(connection, ids=part):
            failed[server_id] = ServerFault(*fault)
        if with_hints:
            for server_id, spec in _SPECS.all(connection, ids=part):
                hints[server_id] = spec.get("scheduler_hints", {})
    return tagged, volumes, failed, hints
