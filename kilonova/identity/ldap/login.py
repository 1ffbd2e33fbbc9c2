"""Logging in with a directory's password: the user is found there, and the directory is asked to take the password.

The password goes there and nowhere else: it is neither kept nor hashed here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kilonova.base.faults import unauthenticated
from kilonova.identity.ldap import refresh
from kilonova.identity.ldap.store import find_entry, public_id
from kilonova.identity.names import name_key
from kilonova.identity.token import login_store
from kilonova.identity.token.bodies import PasswordUser
from kilonova.identity.token.login_store import KnownUser
from kilonova.identity.token.scoping import Proof
from kilonova.identity.user import compliance

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService
    from kilonova.identity.ldap.directory import Directory
    from kilonova.identity.ldap.entries import Person

LOGIN_SECONDS = 10.0  # all in all


async def prove(service: IdentityService, directory: Directory, asked: PasswordUser) -> Proof:
    """The user whose password it is. UNAUTHENTICATED for everybody else, all alike; UNAVAILABLE when nobody can say."""
    async with directory.in_time(LOGIN_SECONDS):
        one = await _find(service, directory, asked)
        known = await _known(service, directory, one)
        right = await directory.admits(one, asked.password)
        admitted = await compliance.admit(service, known, right, forget=False)
        if one is None or not admitted or not one.enabled:
            raise unauthenticated(inside="unknown, disabled or locked user of a directory, or wrong password")
        await refresh.person(service, directory, one)
    known = await _known(service, directory, one)
    if known is None or not known.enabled:
        raise unauthenticated(inside="the user's domain is disabled, or its name belongs to another user here")
    failed = known.failed_logins > 0
    return Proof(known.id, {"password"}, known.default_project_id or "", options=known.options, failed=failed)


async def _find(service: IdentityService, directory: Directory, asked: PasswordUser) -> Person | None:
    """The one entry that is meant; of several of one name, none is."""
    if asked.id:
        entry = await service.db.read(find_entry, asked.id)
        found = await directory.people(local_id=entry.local_id) if entry and entry.kind == "user" else []
    else:
        wanted = name_key(asked.name)
        found = [one for one in await directory.people(name=asked.name.strip()) if name_key(one.name) == wanted]
    return found[0] if len(found) == 1 else None


async def _known(service: IdentityService, directory: Directory, one: Person | None) -> KnownUser | None:
    if one is None:
        return None
    id_ = public_id(directory.domain_id, "user", one.local_id)
    return await service.db.read(login_store.find_user, id_, "", "", "")
