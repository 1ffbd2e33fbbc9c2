"""Identity as an application: Keystone's API v3.14, its routes, rules and discovery documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kilonova.http.app import App
from kilonova.http.contract import Authenticator, Enforcer
from kilonova.http.faults import IDENTITY
from kilonova.http.route import Route
from kilonova.identity.application_credential import resource as application_credential
from kilonova.identity.assignment import resource as assignment
from kilonova.identity.catalog import resource as catalog
from kilonova.identity.core import IdentityService
from kilonova.identity.credential import ec2, signed_login
from kilonova.identity.credential import resource as credential
from kilonova.identity.discovery import discovery
from kilonova.identity.domain import resource as domain
from kilonova.identity.domain_config import resource as domain_config
from kilonova.identity.endpoint_filter import resource as endpoint_filter
from kilonova.identity.federation import login as federation_login
from kilonova.identity.federation import mapping as federation_mapping
from kilonova.identity.federation import provider as federation_provider
from kilonova.identity.federation import service_provider
from kilonova.identity.group import resource as group
from kilonova.identity.host import join
from kilonova.identity.ldap.refresh import refresh_directories
from kilonova.identity.limit import resource as limit
from kilonova.identity.oauth1 import access as oauth_access
from kilonova.identity.oauth1 import consumer as oauth_consumer
from kilonova.identity.oauth1 import handshake as oauth_handshake
from kilonova.identity.policy import resource as policy
from kilonova.identity.project import resource as project
from kilonova.identity.project import tag
from kilonova.identity.revoking import prune_revocations
from kilonova.identity.role import resource as role
from kilonova.identity.token import resource as token
from kilonova.identity.token import revoke_events
from kilonova.identity.token.validate import LocalAuthenticator
from kilonova.identity.trust import resource as trust
from kilonova.identity.user import resource as user
from kilonova.policy.personas import identity_base_rules
from kilonova.policy.rules import Policy, Rule
from kilonova.saga.loops import Loop

MIGRATIONS = "kilonova.identity.migrations"
DENIAL = "You are not authorized to perform the requested action: {rule}."
_NOUNS = (
    token,
    revoke_events,
    domain,
    project,
    tag,
    user,
    group,
    role,
    assignment,
    catalog,
    application_credential,
    credential,
    ec2,
    signed_login,
    trust,
    policy,
    endpoint_filter,
    limit,
    domain_config,
    oauth_consumer,
    oauth_handshake,
    oauth_access,
    federation_provider,
    federation_mapping,
    service_provider,
    federation_login,
    join,
)


_RESOURCES: tuple[Route, ...] = tuple(route for noun in _NOUNS for route in noun.ROUTES)
ROUTES: tuple[Route, ...] = (*discovery(_RESOURCES), *_RESOURCES)
RULES: tuple[Rule, ...] = tuple(rule for noun in _NOUNS for rule in noun.RULES)
LOOPS: tuple[Loop, ...] = (
    Loop("prune revocations", 600.0, prune_revocations),
    Loop("read directories", 15.0, refresh_directories),
    Loop("prune oauth", 600.0, oauth_access.prune_oauth),
    Loop("prune invitations", 600.0, join.prune_invitations),
)


def identity_policy(overrides: Mapping[str, Any] | None = None) -> Policy:
    """Identity's rules with an operator's overrides; refusals are worded as Keystone's."""
    return Policy((*identity_base_rules, *RULES), overrides, denial=DENIAL)


def identity_app(
    service: IdentityService, authenticator: Authenticator | None = None, enforcer: Enforcer | None = None
) -> App:
    """Identity's API. It validates tokens itself, by the rules that all other services ask it for."""
    return App(
        service.world,
        service,
        ROUTES,
        participant="keystone",
        style=IDENTITY,
        authenticator=authenticator or LocalAuthenticator(lambda: service.tokens),
        enforcer=enforcer or identity_policy(),
    )
