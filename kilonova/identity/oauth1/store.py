"""SQL about OAuth1: consumers, the tokens they ask for, the tokens they get, and signatures seen."""

from __future__ import annotations

from datetime import datetime

import msgspec
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from kilonova.identity import store
from kilonova.identity.schema import consumers, oauth_access_tokens, oauth_nonces, oauth_request_tokens


class Consumer(msgspec.Struct):
    """A program that may ask users to act for them. `sealed` holds {"secret": text}."""

    id: str
    description: str | None
    sealed: bytes


class RequestToken(msgspec.Struct):
    """A consumer's wish to act on a project; once a user agrees, `verifier` and what it agreed to are set."""

    id: str
    consumer_id: str
    sealed: bytes
    project_id: str
    expires_at: datetime
    user_id: str | None = None
    verifier: str | None = None
    role_ids: list[str] = []


class AccessToken(msgspec.Struct):
    """What a consumer logs in with: as the user, on the project, with these of the user's roles."""

    id: str
    consumer_id: str
    sealed: bytes
    user_id: str
    project_id: str
    role_ids: list[str]
    expires_at: datetime


def find_consumer(connection: Connection, id_: str) -> Consumer | None:
    """The consumer of that id."""
    return store.get(connection, consumers, Consumer, id_)


def find_request(connection: Connection, id_: str) -> RequestToken | None:
    """The request token of that id."""
    return store.get(connection, oauth_request_tokens, RequestToken, id_)


def find_access(connection: Connection, id_: str) -> AccessToken | None:
    """The access token of that id."""
    return store.get(connection, oauth_access_tokens, AccessToken, id_)


def access_of(connection: Connection, user_id: str) -> list[AccessToken]:
    """Access tokens that a user gave."""
    return store.listed(connection, oauth_access_tokens, AccessToken, [("user_id", "equals", user_id)])


def authorize(connection: Connection, request_id: str, user_id: str, verifier: str, role_ids: list[str]) -> bool:
    """The user agrees; False when somebody agreed before."""
    table = oauth_request_tokens
    open_ = table.update().where(table.c.id == request_id, table.c.user_id.is_(None))
    return connection.execute(open_.values(user_id=user_id, verifier=verifier, role_ids=role_ids)).rowcount == 1


def exchange(connection: Connection, request_id: str, made: AccessToken) -> bool:
    """An access token in place of the request token; False when that is gone."""
    if not store.remove(connection, oauth_request_tokens, request_id):
        return False
    store.insert(connection, oauth_access_tokens, made, "The access token exists already.")
    return True


def use_nonce(connection: Connection, digest: str, expires_at: datetime) -> bool:
    """Note a signature's nonce; False when it was seen before."""
    try:
        connection.execute(oauth_nonces.insert().values(digest=digest, expires_at=expires_at))
    except IntegrityError:
        return False
    return True


def prune(connection: Connection, now: datetime) -> int:
    """Forget what has expired; how many rows went."""
    tables = (oauth_nonces, oauth_request_tokens, oauth_access_tokens)
    return sum(connection.execute(table.delete().where(table.c.expires_at < now)).rowcount for table in tables)
