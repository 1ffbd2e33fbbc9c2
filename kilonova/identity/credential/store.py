"""SQL about credentials. What is secret in one is sealed by the deployment key."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.identity import store
from kilonova.identity.schema import credentials


class Credential(msgspec.Struct):
    """A secret of a user, of any type: ec2, totp, cert. `sealed` holds {"blob": text}."""

    id: str
    user_id: str
    project_id: str | None
    type: str
    sealed: bytes
    access_hash: str | None = None  # of EC2 keys: by it their access key is found


def find(connection: Connection, access_hash: str) -> Credential | None:
    """The EC2 keys of that access key."""
    found = store.listed(connection, credentials, Credential, [("access_hash", "equals", access_hash)])
    return found[0] if found else None


def listed(connection: Connection, user_id: str = "", type_: str = "") -> list[Credential]:
    """Credentials of a user, of a type; "" is any."""
    wanted = [("user_id", "equals", user_id), ("type", "equals", type_)]
    return store.listed(connection, credentials, Credential, [one for one in wanted if one[2]])


def use_step(connection: Connection, credential_id: str, step: int) -> bool:
    """Note that the passcode of that step of time was used; False when it, or a later one, was before."""
    table = credentials.c
    unused = sa.or_(table.used_step.is_(None), table.used_step < step)
    used = credentials.update().where(table.id == credential_id, unused).values(used_step=step)
    return connection.execute(used).rowcount == 1
