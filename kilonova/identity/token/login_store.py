"""SQL that finds who wants to log in, and what for."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

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


def _in_domain(domain_id: str, domain_name: str) -> sa.ColumnElement[bool]:
    return domains.c.id == domain_id if domain_id else domains.c.name_key == name_key(domain_name)


def find_user(connection: Connection, id_: str, name: str, domain_id: str, domain_name: str) -> KnownUser | None:
    """The user of that id, or of that name in that domain."""
    enabled = sa.and_(users.c.enabled, domains.c.enabled).label("enabled")
    named = [users.c[name] for name in KnownUser.__struct_fields__ if name != "enabled"]
    found = sa.select(*named, enabled).join(domains, domains.c.id == users.c.domain_id)
    if id_:
        found = found.where(users.c.id == id_)
    else:
        found = found.where(users.c.name_key == name_key(name), _in_domain(domain_id, domain_name))
    row = connection.execute(found).first()
    return KnownUser(**row._mapping) if row else None


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


def find_credential(connection: Connection, id_: str, name: str, whose: WhoseCredential) -> KnownCredential | None:
    """The application credential of that id, or of that name and user."""
    table = application_credentials.c
    found = sa.select(table.id, table.user_id, table.project_id, table.secret_hash, table.expires_at)
    if id_:
        found = found.where(table.id == id_)
    else:
        user_id = whose.user_id
        if not user_id:
            known = find_user(connection, "", whose.user_name, whose.domain_id, whose.domain_name)
            user_id = known.id if known else ""
        found = found.where(table.user_id == user_id, table.name == name)
    row = connection.execute(found).first()
    return KnownCredential(**row._mapping) if row else None


def find_project(connection: Connection, id_: str, name: str, domain_id: str, domain_name: str) -> str:
    """The id of the project; one that is not there gives what no project has."""
    if id_:
        return id_
    found = (
        sa.select(projects.c.id)
        .join(domains, domains.c.id == projects.c.domain_id)
        .where(projects.c.name_key == name_key(name), _in_domain(domain_id, domain_name))
    )
    return connection.scalar(found) or "-"


def find_domain(connection: Connection, id_: str, name: str) -> str:
    """The id of the domain; one that is not there gives what no domain has."""
    if id_:
        return id_
    return connection.scalar(sa.select(domains.c.id).where(domains.c.name_key == name_key(name))) or "-"


def is_usable(connection: Connection, user_id: str, project_id: str) -> bool:
    """Whether the project is enabled and the user has a role there."""
    enabled = (
        sa.select(projects.c.id)
        .join(domains, domains.c.id == projects.c.domain_id)
        .where(projects.c.id == project_id, projects.c.enabled, domains.c.enabled)
    )
    return connection.execute(enabled).first() is not None and bool(
        roles_of(connection, user_id, "project", project_id)
    )
