"""SQL that makes what a new cloud needs, and leaves alone what is there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.identity.names import name_key
from kilonova.identity.schema import (
    assignments,
    domains,
    endpoints,
    implications,
    projects,
    regions,
    roles,
    services,
    users,
)

DEFAULT_DOMAIN = "default"
ROLES = ("admin", "manager", "member", "reader", "service")
IMPLIED = (("admin", "manager"), ("manager", "member"), ("member", "reader"))


class Account(msgspec.Struct, frozen=True):
    """A user of the default domain."""

    name: str
    password_hash: str
    default_project: str = ""


class Grant(msgspec.Struct, frozen=True):
    """A role of a user on a project; on the system when `project` is ""."""

    user: str
    role: str
    project: str


class WantedService(msgspec.Struct, frozen=True):
    """A service and its URL by interface."""

    type: str
    name: str
    urls: dict[str, str]


class Wanted(msgspec.Struct, frozen=True):
    """All that shall be there."""

    projects: tuple[str, ...]
    accounts: tuple[Account, ...]
    grants: tuple[Grant, ...]
    region: str
    services: tuple[WantedService, ...]


class Made(msgspec.Struct, frozen=True):
    """Ids by name."""

    roles: dict[str, str]
    projects: dict[str, str]
    users: dict[str, str]


def apply(connection: Connection, wanted: Wanted, new_id: Callable[[], str]) -> Made:
    """Make what is missing, mend URLs and passwords that differ; ids by name."""
    _ensure(connection, domains, {"id": DEFAULT_DOMAIN}, _named("Default") | {"description": "", "enabled": True})
    made_roles = {name: _role(connection, name, new_id) for name in ROLES}
    for prior, implied in IMPLIED:
        pair = {"prior_id": made_roles[prior], "implied_id": made_roles[implied]}
        _ensure(connection, implications, pair, {})
    made_projects = {name: _project(connection, name, new_id) for name in wanted.projects}
    made_users = {one.name: _user(connection, one, made_projects, new_id) for one in wanted.accounts}
    for grant in wanted.grants:
        scope = ("project", made_projects[grant.project]) if grant.project else ("system", "all")
        row = {
            "actor": "user",
            "actor_id": made_users[grant.user],
            "scope": scope[0],
            "scope_id": scope[1],
            "role_id": made_roles[grant.role],
            "inherited": False,
        }
        _ensure(connection, assignments, row, {})
    _ensure(connection, regions, {"id": wanted.region}, {"description": "", "parent_region_id": None})
    for service in wanted.services:
        _service(connection, service, wanted.region, new_id)
    return Made(made_roles, made_projects, made_users)


def _named(name: str) -> dict[str, Any]:
    return {"name": name, "name_key": name_key(name)}


def _ensure(connection: Connection, table: sa.Table, key: dict[str, Any], values: dict[str, Any]) -> None:
    """A row with that key."""
    there = sa.select(sa.literal(1)).select_from(table).where(*(table.c[name] == value for name, value in key.items()))
    if connection.execute(there.limit(1)).first() is None:
        connection.execute(table.insert().values(**key, **values))


def _id_of(connection: Connection, table: sa.Table, **key: Any) -> str | None:
    found = sa.select(table.c.id).where(*(table.c[name] == value for name, value in key.items()))
    return connection.scalar(found)


def _role(connection: Connection, name: str, new_id: Callable[[], str]) -> str:
    id_ = _id_of(connection, roles, domain_id="", name_key=name_key(name))
    if id_ is None:
        id_ = new_id()
        row = _named(name) | {"id": id_, "domain_id": "", "description": "", "options": {"immutable": True}}
        connection.execute(roles.insert().values(**row))
    return id_


def _project(connection: Connection, name: str, new_id: Callable[[], str]) -> str:
    id_ = _id_of(connection, projects, domain_id=DEFAULT_DOMAIN, name_key=name_key(name))
    if id_ is None:
        id_ = new_id()
        row = _named(name) | {"id": id_, "domain_id": DEFAULT_DOMAIN, "parent_id": DEFAULT_DOMAIN}
        connection.execute(projects.insert().values(**row, description="", enabled=True, extra={}))
    return id_


def _user(connection: Connection, account: Account, made: dict[str, str], new_id: Callable[[], str]) -> str:
    id_ = _id_of(connection, users, domain_id=DEFAULT_DOMAIN, name_key=name_key(account.name))
    if id_ is not None:
        mine = users.update().where(users.c.id == id_, users.c.password_hash != account.password_hash)
        connection.execute(mine.values(password_hash=account.password_hash))
        return id_
    id_ = new_id()
    row = _named(account.name) | {
        "id": id_,
        "domain_id": DEFAULT_DOMAIN,
        "enabled": True,
        "default_project_id": made.get(account.default_project),
        "password_hash": account.password_hash,
        "options": {},
        "extra": {},
    }
    connection.execute(users.insert().values(**row))
    return id_


def _service(connection: Connection, wanted: WantedService, region: str, new_id: Callable[[], str]) -> None:
    service_id = _id_of(connection, services, type=wanted.type)
    if service_id is None:
        service_id = new_id()
        row = {"id": service_id, "type": wanted.type, "name": wanted.name, "description": "", "enabled": True}
        connection.execute(services.insert().values(**row))
    for interface, url in wanted.urls.items():
        key = {"service_id": service_id, "interface": interface, "region_id": region}
        id_ = _id_of(connection, endpoints, **key)
        if id_ is None:
            connection.execute(endpoints.insert().values(**key, id=new_id(), url=url, name="", enabled=True))
        else:
            mine = endpoints.update().where(endpoints.c.id == id_, endpoints.c.url != url)
            connection.execute(mine.values(url=url))
