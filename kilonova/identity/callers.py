"""Callers made of what tokens say: the one place where a token becomes a Caller."""

from __future__ import annotations

import dataclasses

from msgspec import UNSET, UnsetType

from kilonova.base.caller import AccessRule, Caller
from kilonova.identity.contract import HOST_USER_PREFIX, TokenInfo

SERVICE_ROLE = "service"


def caller_of(info: TokenInfo, token: str) -> Caller:
    """The holder of a token."""
    project, domain = info.project or None, info.domain or None
    agent_host = _agent_host(info)
    return Caller(
        user_id=info.user.id,
        user_name=info.user.name,
        user_domain_id=info.user.domain.id,
        user_domain_name=info.user.domain.name,
        project_id=project.id if project else "",
        project_name=project.name if project else "",
        project_domain_id=project.domain.id if project else "",
        project_domain_name=project.domain.name if project else "",
        domain_id=domain.id if domain else "",
        domain_name=domain.name if domain else "",
        system="all" if info.system else "",
        roles=tuple(role.name for role in info.roles or ()),
        token=token,
        token_expires_at=info.expires_at,
        audit_ids=tuple(info.audit_ids),
        access_rules=_access_rules(info),
        agent_host=agent_host,
        is_agent=bool(agent_host),
    )


def _agent_host(info: TokenInfo) -> str:
    """Whose agents the user is, when it was made for a host that joined. Only administrators name users so."""
    name, roles = info.user.name, [role.name for role in info.roles or ()]
    ours = info.user.domain.id == "default" and name.startswith(HOST_USER_PREFIX) and SERVICE_ROLE in roles
    return name.removeprefix(HOST_USER_PREFIX) if ours else ""


def _access_rules(info: TokenInfo) -> tuple[AccessRule, ...] | None:
    credential = info.application_credential or None
    rules = credential.access_rules if credential else UNSET
    return None if isinstance(rules, UnsetType) else tuple((one.service, one.method, one.path) for one in rules)


def beside_service(caller: Caller, service: Caller | None) -> Caller:
    """`caller` with the roles of the service that speaks for it."""
    if service is None:
        return caller
    return dataclasses.replace(
        caller, service_roles=service.roles, service_user_id=service.user_id, agent_host=service.agent_host
    )
