"""What others may import of identity: what a token says, and whom it was given to.

A service gets a `kilonova.identity.validator.TokenValidator` (an Authenticator) for its door, and a
`kilonova.identity.tokens_for_services.ServiceTokens` for what it asks of others in its own name.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

ACCESS_RULES_HEADER = "openstack-identity-access-rules"  # who asks about a token says with it that it enforces them
ACCESS_RULES_VERSION = 1.0
HOST_USER_PREFIX = "agent-"
VERSION_HEADER = "x-kilonova-token-version"  # how much of all changes the answer about a token knew of


def host_user(host: str) -> str:
    """The service user of one host's agents, in the default domain."""
    return f"{HOST_USER_PREFIX}{host}"


class DomainRef(msgspec.Struct, frozen=True):
    """A domain, as tokens name it."""

    id: str
    name: str


class ProviderRef(msgspec.Struct, frozen=True):
    """An identity provider."""

    id: str


class ProtocolRef(msgspec.Struct, frozen=True):
    """A protocol of one."""

    id: str


class GroupId(msgspec.Struct, frozen=True):
    """A group, by its id alone."""

    id: str


class FederationRef(msgspec.Struct, frozen=True):
    """Where a user came from, and the groups that its provider put it in."""

    identity_provider: ProviderRef
    protocol: ProtocolRef
    groups: list[GroupId]


class UserRef(msgspec.Struct, frozen=True):
    """A user, as tokens name it."""

    id: str
    name: str
    domain: DomainRef
    password_expires_at: str | None = None
    federation: FederationRef | UnsetType = msgspec.field(name="OS-FEDERATION", default=UNSET)


class ProjectRef(msgspec.Struct, frozen=True):
    """A project, as tokens name it."""

    id: str
    name: str
    domain: DomainRef


class RoleRef(msgspec.Struct, frozen=True):
    """A role, as tokens name it."""

    id: str
    name: str


class CatalogEndpoint(msgspec.Struct, frozen=True):
    """Where a service is reached by one kind of client in one region."""

    id: str
    interface: str  # public | internal | admin
    region_id: str | None
    url: str
    region: str | None = None


class CatalogService(msgspec.Struct, frozen=True):
    """A service of the catalog."""

    endpoints: list[CatalogEndpoint]
    id: str
    type: str
    name: str = ""


class ServiceProviderRef(msgspec.Struct, frozen=True):
    """Another cloud that may know the user: where it is logged in to, and where it takes assertions."""

    auth_url: str
    id: str
    sp_url: str


class AccessRuleRef(msgspec.Struct, frozen=True):
    """One kind of request that an application credential allows: `GET /v2.1/servers/*` of service `compute`."""

    id: str
    path: str
    method: str
    service: str


class ApplicationCredentialRef(msgspec.Struct, frozen=True):
    """The application credential that a token was got with. `restricted`: it may not make or delete others."""

    id: str
    name: str
    restricted: bool
    access_rules: list[AccessRuleRef] | UnsetType = UNSET  # unset: every request is allowed


class UserId(msgspec.Struct, frozen=True):
    """A user, by its id alone."""

    id: str


class TrustRef(msgspec.Struct, frozen=True):
    """The trust that a token was got with."""

    id: str
    impersonation: bool
    trustor_user: UserId
    trustee_user: UserId
    redelegation_count: int | UnsetType = UNSET
    redelegated_trust_id: str | UnsetType = UNSET


class OAuthRef(msgspec.Struct, frozen=True):
    """The OAuth1 access token that a token was got with."""

    access_token_id: str
    consumer_id: str


class TokenInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """What `GET /v3/auth/tokens` says of a token. Exactly one of project, domain, system is set, or none."""

    methods: list[str]
    user: UserRef
    audit_ids: list[str]
    expires_at: str  # 2026-11-20T12:00:00.000000Z
    issued_at: str
    project: ProjectRef | UnsetType = UNSET
    is_domain: bool | UnsetType = UNSET
    domain: DomainRef | UnsetType = UNSET
    system: dict[str, bool] | UnsetType = UNSET
    roles: list[RoleRef] | UnsetType = UNSET
    catalog: list[CatalogService] | UnsetType = UNSET
    service_providers: list[ServiceProviderRef] | UnsetType = UNSET  # those that are enabled
    application_credential: ApplicationCredentialRef | UnsetType = UNSET
    trust: TrustRef | UnsetType = msgspec.field(name="OS-TRUST:trust", default=UNSET)
    oauth: OAuthRef | UnsetType = msgspec.field(name="OS-OAUTH1", default=UNSET)


class TokenBody(msgspec.Struct, frozen=True):
    """The answer around it."""

    token: TokenInfo
