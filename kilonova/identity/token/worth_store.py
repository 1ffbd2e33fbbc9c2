"""What a token is worth, and SQL that reads a user as long as it is enabled."""

from __future__ import annotations

from datetime import datetime

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.clock import iso_micros
from kilonova.db.statements import Statement
from kilonova.identity.contract import (
    ApplicationCredentialRef,
    DomainRef,
    OAuthRef,
    ProjectRef,
    RoleRef,
    TrustRef,
    UserRef,
)
from kilonova.identity.schema import domains, users


class Worth(msgspec.Struct, frozen=True):
    """What a user may do in a scope. Unscoped: no roles."""

    user: UserRef
    project: ProjectRef | None = None
    domain: DomainRef | None = None
    roles: tuple[RoleRef, ...] = ()
    credential: ApplicationCredentialRef | None = None
    trust: TrustRef | None = None
    oauth: OAuthRef | None = None
    delegated_until: datetime | None = None
    delegators: tuple[UserRef, ...] = ()  # other users on whose being enabled it depends

    @property
    def user_ids(self) -> set[str]:
        """Of all users whose revocation concerns it."""
        return {self.user.id, *(user.id for user in self.delegators)}

    @property
    def domain_ids(self) -> set[str]:
        """Of these users and of the scope."""
        found = {self.user.domain.id, *(user.domain.id for user in self.delegators)}
        if self.project:
            found.add(self.project.domain.id)
        if self.domain:
            found.add(self.domain.id)
        return found


_USER = Statement(
    sa.select(users.c.name, users.c.password_expires_at, domains.c.id, domains.c.name)
    .join(domains, domains.c.id == users.c.domain_id)
    .where(users.c.id == sa.bindparam("user_id"), users.c.enabled, domains.c.enabled)
)


def read_user(connection: Connection, user_id: str) -> UserRef | None:
    """The user, when it and its domain are enabled."""
    row = _USER.first(connection, user_id=user_id)
    if row is None:
        return None
    name, expires_at, domain_id, domain_name = row
    return UserRef(user_id, name, DomainRef(domain_id, domain_name), expires_at and iso_micros(expires_at))
