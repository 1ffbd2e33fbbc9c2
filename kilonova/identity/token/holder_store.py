"""SQL that reads all that most tokens depend on, in one statement: its user and scope while they are enabled, the roles
given there, and whether it is revoked. Each statement more would be a way to the database and back.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.clock import iso_micros
from kilonova.db.database import lone
from kilonova.db.statements import Statement
from kilonova.identity.contract import DomainRef, ProjectRef, UserRef
from kilonova.identity.schema import application_credentials, domains, federated_users, projects, revocations, users
from kilonova.identity.token.payload import SCOPES, Payload, ScopeKind
from kilonova.identity.token.roles_store import given
from kilonova.identity.token.worth_store import Worth


class Credential(msgspec.Struct, frozen=True):
    """What an application credential lends of its user's roles."""

    id: str
    name: str
    role_ids: list[str]
    unrestricted: bool
    expires_at: datetime | None
    access_rule_ids: list[str]


class Holder(msgspec.Struct, frozen=True):
    """Who holds a token, and where. `worth` has no roles yet: `given` are the ids of those that were given."""

    worth: Worth
    given: list[str]
    is_federated: bool
    is_revoked: bool
    credential: Credential | None = None  # the application credential that the token came by


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


_lent = application_credentials.c
_CREDENTIAL = (_lent.name, _lent.role_ids, _lent.unrestricted, _lent.expires_at, _lent.access_rule_ids)


def _holder(scope: ScopeKind, *, lent: bool = False) -> Statement:
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
    if lent:
        columns += _CREDENTIAL
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
        if lent:
            mine = sa.and_(_lent.id == sa.bindparam("credential_id"), _lent.user_id == users.c.id)
            found = found.join(application_credentials, mine)
    elif scope == "domain":
        found = found.join(_scope_domain, sa.true()).where(_scope_domain.c.id == _AT, _scope_domain.c.enabled)
    return Statement(found)


_HOLDERS: dict[str, Statement] = {scope: _holder(scope) for scope in SCOPES}
_BY_CREDENTIAL = _holder("project", lent=True)


@lone
def read_holder(connection: Connection, payload: Payload) -> Holder | None:
    """The token's user and scope; None unless both and their domains are enabled, and its application credential is."""
    scope, scope_id = payload.scope, payload.scope_id
    values = {"scope_id": scope_id} if scope else {}
    if credential_id := payload.application_credential_id:
        if scope != "project":
            return None
        values["credential_id"] = credential_id
    row = (_BY_CREDENTIAL if credential_id else _HOLDERS[scope]).first(
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
    at, lent = (at[: -len(_CREDENTIAL)], at[-len(_CREDENTIAL) :]) if credential_id else (at, [])
    role_ids = at[-1].split(",") if scope and at[-1] else []
    credential = Credential(credential_id, *lent) if lent else None
    return Holder(worth, role_ids, bool(is_federated), bool(is_revoked), credential)
