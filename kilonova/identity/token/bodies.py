"""The body of POST /v3/auth/tokens: how the client proves who it is, and what the token shall be good for."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType


class DomainName(msgspec.Struct):
    """A domain by id or name."""

    id: str = ""
    name: str = ""


class ProjectName(msgspec.Struct):
    """A project by id, or by name and domain."""

    id: str = ""
    name: str = ""
    domain: DomainName | None = None


class PasswordUser(msgspec.Struct):
    """A user by id, or by name and domain, and its password."""

    password: str
    id: str = ""
    name: str = ""
    domain: DomainName | None = None


class PasswordMethod(msgspec.Struct):
    """`password` of an identity."""

    user: PasswordUser


class TotpUser(msgspec.Struct):
    """A user by id, or by name and domain, and its passcode of the moment."""

    passcode: str
    id: str = ""
    name: str = ""
    domain: DomainName | None = None


class TotpMethod(msgspec.Struct):
    """`totp` of an identity."""

    user: TotpUser


class TokenMethod(msgspec.Struct):
    """`token` of an identity."""

    id: str


class CredentialUser(msgspec.Struct):
    """Whose application credential it is, when it is named."""

    id: str = ""
    name: str = ""
    domain: DomainName | None = None


class CredentialMethod(msgspec.Struct):
    """`application_credential` of an identity: by id, or by name and user."""

    secret: str
    id: str = ""
    name: str = ""
    user: CredentialUser | None = None


class Identity(msgspec.Struct):
    """How the client proves who it is."""

    methods: list[str]
    password: PasswordMethod | None = None
    token: TokenMethod | None = None
    application_credential: CredentialMethod | None = None
    totp: TotpMethod | None = None


class TrustName(msgspec.Struct):
    """A trust."""

    id: str


class Scope(msgspec.Struct):
    """What the token shall be good for. Exactly one."""

    project: ProjectName | None = None
    domain: DomainName | None = None
    system: dict[str, bool] | None = None
    trust: TrustName | None = msgspec.field(name="OS-TRUST:trust", default=None)
    unscoped: dict[str, Any] | None = None


class Login(msgspec.Struct):
    """The body's `auth`."""

    identity: Identity
    scope: Scope | str | UnsetType = UNSET
