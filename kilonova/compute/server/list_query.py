"""What a list of servers is asked to be: query parameters to filters. Filters a user may not use are ignored."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from kilonova.base.faults import invalid
from kilonova.compute.server import states
from kilonova.compute.server.boot_source import truth
from kilonova.compute.server.listing_store import SORT_COLUMNS, Filters
from kilonova.http.request import Request

ALL_FILTERS = "os_compute_api:servers:allow_all_filters"
SORTABLE = set(SORT_COLUMNS)

# query parameter → column, compared as it is
_PLAIN = {"image": "image_id", "uuid": "id", "reservation_id": "reservation_id"}
_OPERATORS = {
    "host": "host",
    "node": "node",
    "user_id": "user_id",
    "task_state": "task_state",
    "hostname": "hostname",
    "launch_index": "launch_index",
    "progress": "progress",
    "root_device_name": "root_device_name",
    "locked_by": "locked_by",
    "description": "description",
}
# for users too since 2.83
_USERS_SINCE_2_83 = {
    "availability_zone": "availability_zone",
    "key_name": "key_name",
    "user_id": "user_id",
    "task_state": "task_state",
    "hostname": "hostname",
    "launch_index": "launch_index",
    "progress": "progress",
    "root_device_name": "root_device_name",
}
_POWERS = {"0": "nostate", "1": "running", "3": "paused", "4": "shutdown", "6": "crashed", "7": "suspended"}


def filters_from(request: Request[Any], all_projects_rule: str) -> Filters:
    """The filters of this request. Asking for all projects, or for deleted servers, is for operators."""
    query, filters = request.query, Filters()
    operator = request.allows(ALL_FILTERS)
    filters.project_id = _project(request, all_projects_rule, operator)
    _times(request, filters)
    if (deleted := query.get("deleted")) is not None and operator:
        filters.deleted = truth(deleted, "deleted")
    elif filters.changed_since is not None:
        filters.deleted = None  # changes tell of deleted servers too
    _status(request, filters, operator)
    filters.name = query.get("name") or query.get("display_name")
    filters.ip, filters.ip6 = query.get("ip"), query.get("ip6")
    if request.version >= (2, 26):
        filters.tags, filters.tags_any = _tags(request, "tags"), _tags(request, "tags-any")
        filters.not_tags, filters.not_tags_any = _tags(request, "not-tags"), _tags(request, "not-tags-any")
    if request.version >= (2, 73) and (locked := query.get("locked")) is not None:
        filters.equal.append(("locked", truth(locked, "locked")))
    _columns(request, filters, operator)
    return filters


def _project(request: Request[Any], rule: str, operator: bool) -> str | None:
    """The project whose servers are listed, or None for all."""
    asked = request.query.get("all_tenants", request.query.get("all_projects"))
    named = request.query.get("project_id") or request.query.get("tenant_id")
    if asked is None or not truth(asked or "1", "all_tenants"):
        return request.caller.project_id
    request.enforce(rule=rule)
    return named or None


def _times(request: Request[Any], filters: Filters) -> None:
    filters.changed_since = _moment(request.query.get("changes-since"), "changes-since")
    if request.version >= (2, 66):
        filters.changed_before = _moment(request.query.get("changes-before"), "changes-before")
    elif "changes-before" in request.query:
        raise invalid("Additional properties are not allowed ('changes-before' was unexpected).")
    since, before = filters.changed_since, filters.changed_before
    if since and before and since > before:
        raise invalid("The value of changes-since must be less than or equal to changes-before.")


def _moment(text: str | None, name: str) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise invalid(f"Invalid input for query parameter {name}: {text[:40]!r} is not a time.") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _status(request: Request[Any], filters: Filters, operator: bool) -> None:
    status = request.query.get("status")
    if status is not None:
        known = status.upper()
        if not states.states_of(known):
            filters.never = True
        elif known in ("DELETED", "SOFT_DELETED"):
            if not operator:
                request.enforce(rule=ALL_FILTERS)
            filters.deleted = known == "DELETED"
        filters.status = known
    if (vm_state := request.query.get("vm_state")) and operator:
        filters.equal.append(("vm_state", vm_state))


def _tags(request: Request[Any], name: str) -> list[str]:
    text = request.query.get(name)
    if text is None:
        return []
    return [tag for tag in text.split(",") if tag]


def _columns(request: Request[Any], filters: Filters, operator: bool) -> None:
    query = request.query
    for name, column in _PLAIN.items():
        if value := query.get(name):
            filters.equal.append((column, value.rsplit("/", 1)[-1] if name == "image" else value))
    if flavor := query.get("flavor"):
        filters.flavor = flavor.rsplit("/", 1)[-1]
    usable: dict[str, str] = dict(_USERS_SINCE_2_83) if request.version >= (2, 83) else {}
    if operator:
        usable |= _USERS_SINCE_2_83 | _OPERATORS
    for name, column in usable.items():
        if (value := query.get(name)) is not None:
            _equal(filters, name, column, value)
    if operator or request.version >= (2, 83):
        for name in ("created_at", "launched_at", "terminated_at"):
            if moment := _moment(query.get(name), name):
                filters.equal.append((name, moment))
        if (power := query.get("power_state")) is not None:
            filters.equal.append(("power_state", _POWERS.get(power, power)))
        if (drive := query.get("config_drive")) is not None:
            filters.equal.append(("config_drive", truth(drive, "config_drive")))


def _equal(filters: Filters, name: str, column: str, value: str) -> None:
    if name in ("launch_index", "progress"):
        if not (value.isascii() and value.isdigit()):
            filters.never = True
            return
        filters.equal.append((column, int(value)))
    elif name == "user_id" and not value:
        filters.never = True
    else:
        filters.equal.append((column, "" if value.lower() in ("none", "null") else value))
