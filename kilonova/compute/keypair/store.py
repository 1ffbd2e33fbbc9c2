"""Key pairs in compute's database. Only public keys: a private key that was made here is shown once and forgotten."""

from __future__ import annotations

from datetime import datetime

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import Fault, Kind, exists
from kilonova.compute.quota import store as quota
from kilonova.compute.schema import metadata
from kilonova.db.listing import Page, paged
from kilonova.db.types import Id, Name, Text, Timestamp


class KeyPair(msgspec.Struct, frozen=True):
    """A user's key. `type` is ssh or x509; `public_key` an OpenSSH line or a certificate in PEM."""

    id: int
    user_id: str
    name: str
    type: str
    fingerprint: str
    public_key: str
    created_at: datetime


keypairs = sa.Table(
    "keypair",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("user_id", Id(), nullable=False),
    sa.Column("name", Name(), nullable=False),
    sa.Column("type", sa.String(8), nullable=False),
    sa.Column("fingerprint", Name(), nullable=False),
    sa.Column("public_key", Text(), nullable=False),
    sa.Column("created_at", Timestamp(), nullable=False),
    sa.UniqueConstraint("user_id", "name"),
)


def no_such(user_id: str, name: str) -> Fault:
    """The user has no key pair of that name."""
    return Fault(Kind.NOT_FOUND, f"Keypair {name[:255]} not found for user {user_id[:64]}", code="KeypairNotFound")


def get_keypair(connection: Connection, user_id: str, name: str) -> KeyPair:
    """The user's key pair of that name, or NOT_FOUND."""
    found = sa.select(keypairs).where(keypairs.c.user_id == user_id, keypairs.c.name == name)
    row = connection.execute(found).first()
    if row is None:
        raise no_such(user_id, name)
    return KeyPair(*row)


def listed(connection: Connection, user_id: str, page: Page) -> list[KeyPair]:
    """One page of the user's key pairs, by name."""
    mine = keypairs.c.user_id == user_id
    found = paged(connection, sa.select(keypairs).where(mine), {"id": keypairs.c.name}, page, marker_filter=mine)
    return [KeyPair(*row) for row in connection.execute(found)]


def count(connection: Connection, user_id: str) -> int:
    """How many key pairs the user has."""
    found = sa.select(sa.func.count()).select_from(keypairs).where(keypairs.c.user_id == user_id)
    return connection.scalar(found) or 0


def insert(connection: Connection, pair: KeyPair, project_id: str) -> None:
    """A new key pair; its id is the database's. EXISTS for a name the user has; OVER_QUOTA as `key_pairs` says."""
    quota.lock(connection, pair.user_id)
    limit = quota.limits_of(connection, project_id, pair.user_id)
    named = sa.select(keypairs.c.id).where(keypairs.c.user_id == pair.user_id, keypairs.c.name == pair.name)
    if connection.execute(named).first() is not None:
        raise exists(f"Key pair '{pair.name}' already exists.", hint="Choose another name.", code="KeyPairExists")
    quota.check({"key_pairs": count(connection, pair.user_id)}, {"key_pairs": 1}, limit)
    values = msgspec.structs.asdict(pair)
    del values["id"]
    connection.execute(keypairs.insert().values(**values))


def delete(connection: Connection, user_id: str, name: str) -> None:
    """The key pair is gone; servers keep their copy of it."""
    at = (keypairs.c.user_id == user_id, keypairs.c.name == name)
    if not connection.execute(keypairs.delete().where(*at)).rowcount:
        raise no_such(user_id, name)
