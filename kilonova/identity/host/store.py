"""SQL about hosts' invitations, and about the service user that a host is given."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import conflict
from kilonova.identity import bootstrap_store, store
from kilonova.identity.bootstrap_store import Account, Grant, Wanted
from kilonova.identity.names import name_key
from kilonova.identity.schema import host_invitations, users
from kilonova.identity.token import revocation_store
from kilonova.identity.user import store as user_store


class Invitation(msgspec.Struct):
    """That `host` may join as `roles` until `expires_at`. `id` is the SHA-256 of its secret, in hex."""

    id: str
    host: str
    roles: list[str]
    expires_at: datetime
    used_at: datetime | None = None


class NewPassword(msgspec.Struct, frozen=True):
    """A host's user with the hash of its new password; tokens got before `at` are remembered as void until then."""

    user: str
    password_hash: str
    region: str
    revocation_id: str
    at: datetime
    void_until: datetime


def invite(connection: Connection, invitation: Invitation) -> None:
    """Keep the invitation; others of that host that nobody used end here."""
    table = host_invitations
    connection.execute(table.delete().where(table.c.host == invitation.host, table.c.used_at.is_(None)))
    store.insert(connection, table, invitation, "The invitation exists already.")


def find(connection: Connection, id_: str) -> Invitation | None:
    """The invitation whose secret has that hash."""
    return store.get(connection, host_invitations, Invitation, id_)


def use(connection: Connection, id_: str, new: NewPassword, new_id: Callable[[], str]) -> None:
    """The invitation is used, and its host has a user with this password. CONFLICT when somebody was faster."""
    table = host_invitations
    mine = table.update().where(table.c.id == id_, table.c.used_at.is_(None), table.c.expires_at > new.at)
    if connection.execute(mine.values(used_at=new.at)).rowcount != 1:
        raise conflict("The invitation was used a moment ago.", code="InvitationUsed")
    set_password(connection, new, new_id)


def set_password(connection: Connection, new: NewPassword, new_id: Callable[[], str]) -> None:
    """The host's user has this password and the role of an agent; what it got by an older one is void."""
    agent = Grant(new.user, "service", "service")
    wanted = Wanted(("service",), (Account(new.user, new.password_hash),), (agent,), new.region, ())
    made = bootstrap_store.apply(connection, wanted, new_id)
    connection.execute(users.update().where(users.c.id == made.users[new.user]).values(enabled=True))
    revocation_store.revoke(connection, new.revocation_id, "user", made.users[new.user], new.at, new.void_until)


def give_back(connection: Connection, id_: str) -> None:
    """The invitation may be used again: what follows from it could not be done."""
    connection.execute(host_invitations.update().where(host_invitations.c.id == id_).values(used_at=None))


def expel(connection: Connection, user: str, void: tuple[str, datetime, datetime]) -> bool:
    """The host's user and its roles are gone; False when there was no such user.

    `void`: an id for the revocation of its tokens, when they are void from, and until when that is remembered.
    """
    key = name_key(user)
    mine = sa.select(users.c.id).where(users.c.domain_id == bootstrap_store.DEFAULT_DOMAIN, users.c.name_key == key)
    user_id = connection.scalar(mine)
    if user_id is None:
        return False
    id_, at, until = void
    revocation_store.revoke(connection, id_, "user", user_id, at, until)
    user_store.delete(connection, user_id)
    return True


def prune(connection: Connection, before: datetime) -> int:
    """Forget invitations that expired before then; how many went."""
    return connection.execute(host_invitations.delete().where(host_invitations.c.expires_at < before)).rowcount
