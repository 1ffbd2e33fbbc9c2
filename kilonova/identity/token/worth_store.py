"""SQL that reads whom and where a token is about, as long as they are enabled; and what it is worth."""

from __future__ import annotations

from datetime import datetime

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.clock import iso_micros
from kilonova.identity.contract import (
    ApplicationCredentialRef,
    DomainRef,
    OAuthRef,
    ProjectRef,
    RoleRef,
    TrustRef,
    UserRef,
)
from kilonova.identity.schema import domains, projects, users


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


def read_user(connection: Connection, user_id: str) -> UserRef | None:
    """The user, when it and its domain are enabled."""
    found = (
        sa.select(
            users.c.id,
            users.c.name,
            users.c.password_expires_at,
            domains.c.id.label("domain_id"),
            domains.c.name.label("domain_name"),
        )
        .join(domains, domains.c.id == users.c.domain_id)
        .where(users.c.id == user_id, users.c.enabled, domains.c.enabled)
    )
    row = connection.execute(found).first()
    if row is None:
        return None
    expires_at = iso_micros(row.password_expires_at) if row.password_expires_at else None
    return UserRef(row.id, row.name, DomainRef(row.domain_id, row.domain_name), expires_at)


def read_project(connection: Connection, project_id: str) -> ProjectRef | None:
    """The project, when it and its domain are enabled."""
    found = (
        sa.select(projects.c.id, projects.c.name, domains.c.id.label("domain_id"), domains.c.name.label("domain_name"))
        .join(domains, domains.c.id == projects.c.domain_id)
        .where(projects.c.id == project_id, projects.c.enabled, domains.c.enabled)
    )
    row = connection.execute(found).first()
    return ProjectRef(row.id, row.name, DomainRef(row.domain_id, row.domain_name)) if row else None


def read_domain(connection: Connection, domain_id: str) -> DomainRef | None:
    """The domain, when it is enabled."""
    row = connection.execute(sa.select(domains).where(domains.c.id == domain_id, domains.c.enabled)).first()
    return DomainRef(row.id, row.name) if row else None
