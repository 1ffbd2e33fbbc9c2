"""Bringing the rows of a domain's users and groups into line with its directory: when somebody asks, and by a loop.

Validating a token never asks a directory: it reads these rows. So a directory that is away ends no token, and what
changes there is known here when its user logs in or is looked at, and within `directory_refresh_seconds` at the latest.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from kilonova.base.faults import Fault, unavailable
from kilonova.identity.ldap import store as entry_store
from kilonova.identity.ldap.store import Moment, public_id, written

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService
    from kilonova.identity.ldap.directory import Directory
    from kilonova.identity.ldap.entries import Person


def moment(service: IdentityService) -> Moment:
    """Now, and how long a token got before may be in use."""
    settings = service.settings
    longest = timedelta(seconds=settings.token_lifetime_seconds + settings.expired_token_grace_seconds)
    return Moment(service.world.clock.now(), longest)


async def person(service: IdentityService, directory: Directory, one: Person) -> str:
    """The user's id here, once its row and its groups are as they are there."""
    domain_id, id_ = directory.domain_id, public_id(directory.domain_id, "user", one.local_id)
    teams = await directory.teams_of(one)
    now = moment(service)
    await written(service.db, entry_store.write_people, domain_id, [one], now, whole=False)
    await written(service.db, entry_store.write_teams, domain_id, teams, whole=False)
    group_ids = {public_id(domain_id, "group", team.local_id) for team in teams}
    known = await service.db.read(entry_store.known_ids, group_ids | {id_})
    if id_ in known:
        pairs = {(group_id, id_) for group_id in group_ids & known}
        await written(service.db, entry_store.write_members, domain_id, pairs, user_id=id_)
    service.tokens.forget()  # the units say themselves whether tokens changed: most logins change nothing
    return id_


async def whole(service: IdentityService, directory: Directory) -> int:
    """All users, groups and memberships are as they are there; how much changed."""
    domain_id = directory.domain_id
    people, teams = await directory.people(), await directory.teams()
    now = moment(service)
    changed = await written(service.db, entry_store.write_people, domain_id, people, now, whole=True)
    changed += await written(service.db, entry_store.write_teams, domain_id, teams, whole=True)
    by_key = await _members(service, directory)
    known = {entry.public_id for entry in await service.db.read(entry_store.whole_entries, domain_id, "group")}
    pairs = {
        (group_id, by_key[member])
        for team in teams
        if (group_id := public_id(domain_id, "group", team.local_id)) in known
        for member in team.members
        if member in by_key
    }
    changed += await written(service.db, entry_store.write_members, domain_id, pairs)
    service.tokens.forget()
    return changed


async def _members(service: IdentityService, directory: Directory) -> dict[str, str]:
    """The id here of each user, by what groups name as their members."""
    entries = await service.db.read(entry_store.whole_entries, directory.domain_id, "user")
    by_id = directory.options.group_members_are_ids
    return {entry.local_id if by_id else entry.dn_key: entry.public_id for entry in entries}


async def listed(service: IdentityService, kind: entry_store.Kind, domain_id: str | None, name: str | None) -> None:
    """Before a list of a domain's users or groups is read: they are as they are there. UNAVAILABLE when it is away."""
    directory = await service.directories.of(domain_id) if domain_id else None
    if directory is None:
        return
    if name and kind == "user":
        people = await directory.people(name=name)
        for one in people:
            await person(service, directory, one)
        found = bool(people)
    elif name:
        teams = await directory.teams(name=name)
        await written(service.db, entry_store.write_teams, directory.domain_id, teams, whole=False)
        found = bool(teams)
    if not name or not found:  # of that name there may have been one before
        await whole(service, directory)


async def user(service: IdentityService, id_: str) -> bool:
    """Before a user is shown: it and its groups are as they are there. Whether a directory was asked."""
    found = await _directory_of(service, id_)
    if found is None:
        return False
    entry, directory = found
    people = await directory.people(local_id=entry.local_id)
    for one in people:
        await person(service, directory, one)
    if not people and entry.present:
        await whole(service, directory)  # it is gone; who else is, is soon told too
    return True


async def group(service: IdentityService, id_: str) -> None:
    """Before a group's members are read: they are as they are there."""
    found = await _directory_of(service, id_)
    if found is not None:
        await whole(service, found[1])


async def must_be_here(service: IdentityService, kind: entry_store.Kind, id_: str, *, gone_too: bool = False) -> None:
    """FORBIDDEN for a user or group that is in a directory; with `gone_too` one that is there no more may pass."""
    entry = await service.db.read(entry_store.find_entry, id_) if await service.directories.every() else None
    if entry is not None and entry.kind == kind and (entry.present or not gone_too):
        await service.directories.must_be_here(entry.domain_id, f"{kind}s")


async def _directory_of(service: IdentityService, id_: str) -> tuple[entry_store.DirectoryEntry, Directory] | None:
    if not await service.directories.every():
        return None
    entry = await service.db.read(entry_store.find_entry, id_)
    directory = await service.directories.of(entry.domain_id) if entry else None
    return (entry, directory) if entry and directory else None


async def refresh_directories(service: IdentityService) -> int:
    """Every domain that has a directory is as it is there, by now; how much changed. One that is away keeps no other
    from it."""
    changed, silent = 0, list[str]()
    for domain_id in await service.directories.due():
        try:
            directory = await service.directories.of(domain_id)
            changed += await whole(service, directory) if directory else 0
        except Fault as fault:
            silent.append(f"domain {domain_id}: {fault.message} {fault.inside}".strip())
    if silent:
        raise unavailable("Some directories could not be read.", inside="; ".join(silent))
    return changed
