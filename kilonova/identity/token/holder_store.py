"""SQL that reads all that most tokens depend on, in one statement: its user and scope while they are enabled, the roles
given there, and whether it is revoked. Each statement more would be a way to the database and back.
"""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.clock import iso_micros
from kilonova.db.statements import Statement
from kilonova.identity.contract import DomainRef, ProjectRef, UserRef
from kilonova.identity.schema import domains, federated_users, projects, revocations, users
from kilonova.identity.token.payload import SCOPES, Payload, ScopeKind
from kilonova.identity.token.roles_store import given
from kilonova.identity.token.worth_store import Worth


class Holder(msgspec.Struct, frozen=True):
    """Who holds a token, and where. `worth` has no roles yet: `given` are the ids of those that were given."""

    worth: Worth
    given: list[str]
    is_federated: bool
    is_revoked: bool


_user_domain, _scope_domain = domains.alias("user_domain"), domains.alias("scope_domain")
_AT: sa.BindParameter[str] = sa.bindparam("scope_id")


def _revoked(*concerned: tuple[str, Any]) -> sa.Exists:
    """Whether a revocation of one of these kinds and values came after the token."""
    row = revocations.c
    return sa.exists().where(
        row.value.in_([value for _, value in concerned]),
        row.revoked_at >= sa.bindparam("issued_at"),
        sa.or_(*(sa.and_(row.kind == kind, row.value == value) for kind, value in concerned)),
    )


def _holder(scope: ScopeKind) -> Statement:
    concerned: list[tuple[str, Any]] = [
        ("token", sa.bindparam("audit_id")),
        ("chain", sa.bindparam("chain_id")),
        ("user", users.c.id),
        ("domain", _user_domain.c.id),
    ]
    columns: list[Any] = []
    if scope in ("project", "domain"):
        concerned.append(("domain", _scope_domain.c.id))
        columns = [_scope_domain.c.id, _scope_domain.c.name]
    if scope == "project":
        concerned.append(("project", projects.c.id))
        columns.append(projects.c.name)
    if scope:
        columns.append(sa.select(sa.func.aggregate_strings(given(scope).subquery().c.role_id, ",")).scalar_subquery())
    federated = sa.exists().where(federated_users.c.user_id == users.c.id)
    found = (
        sa.select(users.c.name, users.c.password_expires_at, _user_domain.c.id, _user_domain.c.name, federated)
        .add_columns(_revoked(*concerned), *columns)
        .join(_user_domain, _user_domain.c.id == users.c.domain_id)
        .where(users.c.id == sa.bindparam("user_id"), users.c.enabled, _user_domain.c.enabled)
    )
    if scope == "project":
        found = found.join(projects, sa.true()).join(_scope_domain, _scope_domain.c.id == projects.c.domain_id)
        found = found.where(projects.c.id == _AT, projects.c.enabled, _scope_domain.c.enabled)
    elif scope == "domain":
        found = found.join(_scope_domain, sa.true()).where(_scope_domain.c.id == _AT, _scope_domain.c.enabled)
    return Statement(found)


_HOLDERS: dict[str, Statement] = {scope: _holder(scope) for scope in SCOPES}


def read_holder(connection: Connection, payload: Payload) -> Holder | None:
    """The token's user and scope; None unless both and their domains are enabled."""
    scope, scope_id = payload.scope, payload.scope_id
    values = {"scope_id": scope_id} if scope else {}
    row = _HOLDERS[scope].first(
        connection,
        user_id=payload.user_id,
        issued_at=payload.issued_at,
        audit_id=payload.audit_ids[0],
        chain_id=payload.audit_ids[-1],
        **values,
    )
    if row is None:
        return None
    name, expires_at, domain_id, domain_name, is_federated, is_revoked, *at = row
    user = UserRef(payload.user_id, name, DomainRef(domain_id, domain_name), expires_at and iso_micros(expires_at))
    worth = Worth(
        user,
        ProjectRef(scope_id, at[2], DomainRef(at[0], at[1])) if scope == "project" else None,
        DomainRef(at[0], at[1]) if scope == "domain" else None,
    )
    role_ids = at[-1].split(",") if scope and at[-1] else []
    return Holder(worth, role_ids, bool(is_federated), bool(is_revoked))
