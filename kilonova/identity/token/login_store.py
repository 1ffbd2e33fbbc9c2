"""SQL that finds who wants to log in, and what for."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.db.database import lone
from kilonova.db.statements import Statement
from kilonova.identity.names import name_key
from kilonova.identity.schema import application_credentials, domains, projects, users
from kilonova.identity.token.roles_store import roles_of


class KnownUser(msgspec.Struct):
    """A user who may have the right password; `enabled` counts its domain too."""

    id: str
    password_hash: str
    default_project_id: str | None
    enabled: bool
    options: dict[str, Any]
    password_expires_at: datetime | None
    failed_logins: int
    failed_at: datetime | None
    active_at: datetime | None


class KnownCredential(msgspec.Struct):
    """An application credential that may have the right secret."""

    id: str
    user_id: str
    project_id: str
    secret_hash: str
    expires_at: datetime | None


class WhoseCredential(msgspec.Struct):
    """The user of a named credential."""

    user_id: str
    user_name: str
    domain_id: str
    domain_name: str


_NAMED = [one for one in KnownUser.__struct_fields__ if one != "enabled"]
_KNOWN = sa.select(*(users.c[one] for one in _NAMED), sa.and_(users.c.enabled, domains.c.enabled)).join(
    domains, domains.c.id == users.c.domain_id
)
_NAME: sa.BindParameter[str] = sa.bindparam("name")
_DOMAIN_ID, _DOMAIN_NAME = domains.c.id == sa.bindparam("domain_id"), domains.c.name_key == sa.bindparam("domain_name")
_USER = Statement(_KNOWN.where(users.c.id == sa.bindparam("id")))
_USER_BY_NAME = (
    Statement(_KNOWN.where(users.c.name_key == _NAME, _DOMAIN_ID)),
    Statement(_KNOWN.where(users.c.name_key == _NAME, _DOMAIN_NAME)),
)
_PROJECT = sa.select(projects.c.id).join(domains, domains.c.id == projects.c.domain_id)
_PROJECT_BY_NAME = (
    Statement(_PROJECT.where(projects.c.name_key == _NAME, _DOMAIN_ID)),
    Statement(_PROJECT.where(projects.c.name_key == _NAME, _DOMAIN_NAME)),
)
_DOMAIN = Statement(sa.select(domains.c.id).where(_DOMAIN_NAME))


def _named(by: tuple[Statement, Statement], connection: Connection, name: str, domain: tuple[str, str]) -> Any:
    """The row of that name in the domain, which is given by its id or its name."""
    domain_id, domain_name = domain
    if domain_id:
        return by[0].first(connection, name=name_key(name), domain_id=domain_id)
    return by[1].first(connection, name=name_key(name), domain_name=name_key(domain_name))


@lone
def find_user(connection: Connection, id_: str, name: str, domain_id: str, domain_name: str) -> KnownUser | None:
    """The user of that id, or of that name in that domain."""
    by_name = (_USER_BY_NAME, connection, name, (domain_id, domain_name))
    row = _USER.first(connection, id=id_) if id_ else _named(*by_name)
    return KnownUser(**dict(zip(_NAMED, row, strict=False)), enabled=bool(row[-1])) if row else None


def count_failure(connection: Connection, user_id: str, now: datetime) -> None:
    """One more wrong password in a row."""
    mine = users.update().where(users.c.id == user_id)
    connection.execute(mine.values(failed_logins=users.c.failed_logins + 1, failed_at=now))


def forget_failures(connection: Connection, user_id: str) -> None:
    """The password was right."""
    connection.execute(users.update().where(users.c.id == user_id).values(failed_logins=0, failed_at=None))


def note_activity(connection: Connection, user_id: str, now: datetime) -> None:
    """The user was here."""
    connection.execute(users.update().where(users.c.id == user_id).values(active_at=now))


def rehash(connection: Connection, user_id: str, old: str, new: str) -> None:
    """Replace the hash of an unchanged password."""
    mine = users.update().where(users.c.id == user_id, users.c.password_hash == old)
    connection.execute(mine.values(password_hash=new))


_MINE = application_credentials.c
_CREDENTIAL = sa.select(_MINE.id, _MINE.user_id, _MINE.project_id, _MINE.secret_hash, _MINE.expires_at)
_CREDENTIAL_BY_ID = Statement(_CREDENTIAL.where(_MINE.id == sa.bindparam("id")))
_CREDENTIAL_BY_NAME = Statement(_CREDENTIAL.where(_MINE.user_id == sa.bindparam("user_id"), _MINE.name == _NAME))


@lone
def find_credential(connection: Connection, id_: str) -> KnownCredential | None:
    """The application credential of that id."""
    row = _CREDENTIAL_BY_ID.first(connection, id=id_)
    return KnownCredential(*row) if row else None


def find_named_credential(connection: Connection, name: str, whose: WhoseCredential) -> KnownCredential | None:
    """The application credential of that name and user."""
    user_id = whose.user_id
    if not user_id:
        known = find_user(connection, "", whose.user_name, whose.domain_id, whose.domain_name)
        user_id = known.id if known else ""
    row = _CREDENTIAL_BY_NAME.first(connection, user_id=user_id, name=name)
    return KnownCredential(*row) if row else None


@lone
def find_project(connection: Connection, id_: str, name: str, domain_id: str, domain_name: str) -> str:
    """The id of the project; one that is not there gives what no project has."""
    found = (id_,) if id_ else _named(_PROJECT_BY_NAME, connection, name, (domain_id, domain_name))
    return found[0] if found else "-"


@lone
def find_domain(connection: Connection, id_: str, name: str) -> str:
    """The id of the domain; one that is not there gives what no domain has."""
    return id_ or _DOMAIN.scalar(connection, domain_name=name_key(name)) or "-"


_USABLE = Statement(
    sa.select(projects.c.id)
    .join(domains, domains.c.id == projects.c.domain_id)
    .where(projects.c.id == sa.bindparam("id"), projects.c.enabled, domains.c.enabled)
)


def is_usable(connection: Connection, user_id: str, project_id: str) -> bool:
    """Whether the project is enabled and the user has a role there."""
    enabled = _USABLE.first(connection, id=project_id) is not None
    return enabled and bool(roles_of(connection, user_id, "project", project_id))
