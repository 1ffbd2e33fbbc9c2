"""SQL about users and groups that are in directories: the rows here that stand for them, brought into line.

A row stands for an entry for ever: what hangs on it (roles, credentials, trusts) is there again when the entry is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from kilonova.db.database import Database, bulky
from kilonova.identity import store
from kilonova.identity.names import name_key
from kilonova.identity.schema import (
    directory_entries,
    domain_options,
    domains,
    groups,
    identity_providers,
    memberships,
    users,
)
from kilonova.identity.token import revocation_store

if TYPE_CHECKING:  # entries need python-ldap, which a cloud without directories never loads
    from kilonova.identity.ldap.entries import Person, Team

Kind = Literal["user", "group"]
FEW = 100
_SHOWN: dict[str, tuple[sa.Table, tuple[str, ...]]] = {
    "user": (users, ("name", "enabled", "default_project_id", "extra")),
    "group": (groups, ("name", "description")),
}


async def written(db: Database, unit: Callable[..., int], *args: Any, **named: Any) -> int:
    """What `unit` wrote. Another process that saw the same new entry first is no mistake: then there is less to do."""
    try:
        return await db.write(unit, *args, **named)
    except IntegrityError:
        return await db.write(unit, *args, **named)


class Moment(msgspec.Struct, frozen=True):
    """When rows are brought into line, and until when a token got before may be in use."""

    now: datetime
    longest: timedelta


class DirectoryEntry(msgspec.Struct, frozen=True):
    """An entry that is a user or group here."""

    public_id: str
    domain_id: str
    kind: Kind
    local_id: str
    dn_key: str
    present: bool


def public_id(domain_id: str, kind: Kind, local_id: str) -> str:
    """The id here of an entry there: the one that Keystone gives it, so that what it wrote stays right."""
    return hashlib.sha256(f"{domain_id}{kind}{local_id}".encode()).hexdigest()


def configured(connection: Connection) -> dict[str, dict[tuple[str, str], bytes]]:
    """The sealed options of every domain that names a driver."""
    table = domain_options.c
    named = sa.select(table.domain_id).where(table.section == "identity", table.name == "driver")
    found: dict[str, dict[tuple[str, str], bytes]] = {}
    for row in connection.execute(sa.select(domain_options).where(table.domain_id.in_(named))):
        found.setdefault(row.domain_id, {})[row.section, row.name] = row.sealed
    return found


def find_entry(connection: Connection, id_: str) -> DirectoryEntry | None:
    """The entry behind a user or group; None when it is none of a directory."""
    names = [directory_entries.c[name] for name in DirectoryEntry.__struct_fields__]
    found = sa.select(*names).where(directory_entries.c.public_id == id_)
    return next(iter(store.structs(connection, found, DirectoryEntry)), None)


def domain_named(connection: Connection, name: str) -> str:
    """The id of the domain of that name; "" for none."""
    return connection.scalar(sa.select(domains.c.id).where(domains.c.name_key == name_key(name))) or ""


def domain_of_user(connection: Connection, user_id: str) -> str:
    """The id of the domain that a user is in; "" for none."""
    return connection.scalar(sa.select(users.c.domain_id).where(users.c.id == user_id)) or ""


def has_its_own(connection: Connection, domain_id: str) -> bool:
    """Whether the domain has users, groups or identity providers that are of no directory."""
    theirs = sa.select(directory_entries.c.public_id)
    return any(
        connection.execute(sa.select(table.c.id).where(table.c.domain_id == domain_id, *more).limit(1)).first()
        for table, more in (
            (users, (users.c.id.not_in(theirs),)),
            (groups, (groups.c.id.not_in(theirs),)),
            (identity_providers, ()),
        )
    )


@bulky
def write_people(
    connection: Connection, domain_id: str, people: Collection[Person], moment: Moment, *, whole: bool
) -> int:
    """Users are what the directory says; how many changed. `whole`: whoever is not among them is gone from there.

    Tokens of who is disabled or gone end, and do not come back.
    """
    wanted = {
        public_id(domain_id, "user", one.local_id): {
            "name": one.name,
            "enabled": one.enabled,
            "default_project_id": one.default_project_id,
            "extra": dict(one.extra),
        }
        for one in people
    }
    keys = {public_id(domain_id, "user", one.local_id): (one.local_id, one.dn_key) for one in people}
    before = _rows(connection, "user", domain_id, None if whole else wanted)
    fresh = {"password_hash": "", "options": {}}
    gone = _leave(connection, "user", domain_id, set(wanted)) if whole else set[str]()  # their names are free now
    changed = _write(connection, "user", domain_id, (wanted, before), keys, fresh)
    ended = {id_ for id_, row in before.items() if row["enabled"] and (id_ in gone or not _enabled(wanted.get(id_)))}
    for id_ in sorted(ended):
        revoked = hashlib.sha256(f"{id_}{moment.now.isoformat()}".encode()).hexdigest()[:32]
        revocation_store.revoke(connection, revoked, "user", id_, moment.now, moment.now + moment.longest)
    if changed or gone or ended:
        store.bump_version(connection)
    return len(changed | gone | ended)


def _enabled(row: dict[str, Any] | None) -> bool:
    return row is None or bool(row["enabled"])


@bulky
def write_teams(connection: Connection, domain_id: str, teams: Collection[Team], *, whole: bool) -> int:
    """Groups are what the directory says; how many changed. `whole`: those not among them are gone from there."""
    wanted = {
        public_id(domain_id, "group", one.local_id): {"name": one.name, "description": one.description} for one in teams
    }
    keys = {public_id(domain_id, "group", one.local_id): (one.local_id, "") for one in teams}
    before = _rows(connection, "group", domain_id, None if whole else wanted)
    gone = _leave(connection, "group", domain_id, set(wanted)) if whole else set[str]()
    changed = _write(connection, "group", domain_id, (wanted, before), keys, {})
    return len(changed | gone)


def _rows(connection: Connection, kind: Kind, domain_id: str, ids: Iterable[str] | None) -> dict[str, dict[str, Any]]:
    """What is shown of the domain's users or groups of a directory, by id; of those of `ids` only."""
    table, shown = _SHOWN[kind]
    found = (
        sa.select(
            table.c.id, *(table.c[name] for name in shown), directory_entries.c.dn_key, directory_entries.c.present
        )
        .join(directory_entries, directory_entries.c.public_id == table.c.id)
        .where(directory_entries.c.domain_id == domain_id)
    )
    if ids is not None:
        found = found.where(table.c.id.in_(list(ids)))
    return {row.id: dict(row._mapping) for row in connection.execute(found)}


def _write(
    connection: Connection,
    kind: Kind,
    domain_id: str,
    rows: tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]],
    keys: dict[str, tuple[str, str]],
    fresh: dict[str, Any],
) -> set[str]:
    """Insert and change rows until they are as wanted; ids of those that were not. Of two of one name, one stays out:
    whoever has it here already keeps it, else the first by id."""
    wanted, before = rows
    table, shown = _SHOWN[kind]
    taken = _names(connection, table, domain_id, wanted)
    changed: set[str] = set()
    for id_ in sorted(wanted, key=lambda id_: (id_ not in before or not before[id_]["present"], id_)):
        values, key = wanted[id_], name_key(wanted[id_]["name"])
        if taken.setdefault(key, id_) != id_:
            continue
        local_id, dn = keys[id_]
        old = before.get(id_)
        if old is None:
            row = values | fresh | {"id": id_, "domain_id": domain_id, "name_key": id_}
            connection.execute(table.insert().values(**row))
            entry = {"public_id": id_, "domain_id": domain_id, "kind": kind, "local_id": local_id}
            connection.execute(directory_entries.insert().values(**entry, dn_key=dn, present=True))
            changed.add(id_)
        elif any(old[name] != values[name] for name in shown) or not old["present"]:
            connection.execute(table.update().where(table.c.id == id_).values(**values, name_key=id_))
            changed.add(id_)
        if old is not None and (old["dn_key"] != dn or not old["present"]):
            mine = directory_entries.update().where(directory_entries.c.public_id == id_)
            connection.execute(mine.values(dn_key=dn, present=True))
    # only now, when all old names are given up: two users may have changed theirs for each other's
    for id_ in sorted(changed):
        connection.execute(table.update().where(table.c.id == id_).values(name_key=name_key(wanted[id_]["name"])))
    return changed


def _names(
    connection: Connection, table: sa.Table, domain_id: str, wanted: dict[str, dict[str, Any]]
) -> dict[str, str]:
    """Who else in the domain has one of the names that are wanted. A few are asked for; of many, all are read."""
    found = sa.select(table.c.name_key, table.c.id).where(table.c.domain_id == domain_id)
    if len(wanted) <= FEW:
        found = found.where(table.c.name_key.in_([name_key(row["name"]) for row in wanted.values()]))
    return {row.name_key: row.id for row in connection.execute(found) if row.id not in wanted}


def _leave(connection: Connection, kind: Kind, domain_id: str, present: set[str]) -> set[str]:
    """Whoever the directory has no more: disabled, in no group, and its name is free. Its row stays."""
    table = _SHOWN[kind][0]
    of = (directory_entries.c.domain_id == domain_id, directory_entries.c.kind == kind, directory_entries.c.present)
    gone = set(connection.scalars(sa.select(directory_entries.c.public_id).where(*of))) - present
    for id_ in sorted(gone):
        values = {"name_key": id_, "enabled": False} if kind == "user" else {"name_key": id_}
        connection.execute(table.update().where(table.c.id == id_).values(**values))
        connection.execute(directory_entries.update().where(directory_entries.c.public_id == id_).values(present=False))
    return gone


@bulky
def write_members(
    connection: Connection, domain_id: str, wanted: set[tuple[str, str]], *, user_id: str = "", group_id: str = ""
) -> int:
    """The directory's groups have these (group, user) members; of one user or group only, when it is named.

    How many came or went. Memberships of other groups, whoever is in them, are not touched.
    """
    theirs = sa.select(directory_entries.c.public_id).where(
        directory_entries.c.domain_id == domain_id, directory_entries.c.kind == "group"
    )
    table = memberships.c
    found = sa.select(table.group_id, table.user_id).where(table.group_id.in_(theirs))
    if user_id:
        found = found.where(table.user_id == user_id)
    if group_id:
        found = found.where(table.group_id == group_id)
    before = {(row.group_id, row.user_id) for row in connection.execute(found)}
    for gone in sorted(before - wanted):
        connection.execute(memberships.delete().where(table.group_id == gone[0], table.user_id == gone[1]))
    if new := sorted(wanted - before):
        connection.execute(memberships.insert(), [{"group_id": one[0], "user_id": one[1]} for one in new])
    if before != wanted:
        store.bump_version(connection)
    return len(before ^ wanted)


def known_ids(connection: Connection, ids: Collection[str]) -> set[str]:
    """Those of the ids that stand for an entry."""
    found = sa.select(directory_entries.c.public_id).where(directory_entries.c.public_id.in_(sorted(ids)))
    return set(connection.scalars(found))


def whole_entries(connection: Connection, domain_id: str, kind: Kind) -> list[DirectoryEntry]:
    """Those of one kind that the directory has, as they are known here."""
    names = [directory_entries.c[name] for name in DirectoryEntry.__struct_fields__]
    of = (directory_entries.c.domain_id == domain_id, directory_entries.c.kind == kind, directory_entries.c.present)
    return store.structs(connection, sa.select(*names).where(*of), DirectoryEntry)
