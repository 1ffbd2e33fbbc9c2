"""SQL about application credentials."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.identity import store
from kilonova.identity.application_credential import rule_store
from kilonova.identity.application_credential.rule_store import AccessRule
from kilonova.identity.schema import application_credentials


class ApplicationCredential(msgspec.Struct):
    """A secret for a program, with some of its user's roles on one project."""

    id: str
    user_id: str
    project_id: str
    name: str
    description: str | None
    role_ids: list[str]
    unrestricted: bool
    expires_at: datetime | None
    access_rule_ids: list[str] | None = None


class NewCredential(ApplicationCredential, kw_only=True):
    """As it is first written."""

    secret_hash: str


def insert(connection: Connection, new: NewCredential, rules: Iterable[AccessRule], taken: str) -> None:
    """A new credential with its access rules."""
    new.access_rule_ids = rule_store.ensure(connection, rules) or None
    store.insert(connection, application_credentials, new, taken)


def listed(connection: Connection, user_id: str, name: str | None) -> list[ApplicationCredential]:
    """The user's, all or of one name."""
    table = application_credentials
    found = sa.select(*store.columns(table, ApplicationCredential)).where(table.c.user_id == user_id)
    if name is not None:
        found = found.where(table.c.name == name)
    return store.structs(connection, found.order_by(table.c.name), ApplicationCredential)
