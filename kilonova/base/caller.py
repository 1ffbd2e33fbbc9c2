"""Caller: who asks, with which roles, on what. Made from a validated token; passed down, never looked up again."""

from __future__ import annotations

from dataclasses import dataclass, field

AccessRule = tuple[str, str, str]  # service type, method, path pattern


@dataclass(frozen=True, slots=True)
class Caller:
    """A validated token's holder. Exactly one of project_id, domain_id, system is set, or none (unscoped)."""

    user_id: str = ""
    user_name: str = ""
    user_domain_id: str = ""
    user_domain_name: str = ""
    project_id: str = ""
    project_name: str = ""
    project_domain_id: str = ""
    project_domain_name: str = ""
    domain_id: str = ""
    domain_name: str = ""
    system: str = ""  # "all" for a system-scoped token
    roles: tuple[str, ...] = ()
    is_admin_project: bool = True
    service_roles: tuple[str, ...] = ()  # roles of a valid X-Service-Token beside the user's
    service_user_id: str = ""
    token: str = field(default="", repr=False)  # the token itself, to pass on to peers; never logged
    token_expires_at: str = ""  # ISO 8601, as the token says
    audit_ids: tuple[str, ...] = ()
    access_rules: tuple[AccessRule, ...] | None = None  # the only requests allowed; None: all
    agent_host: str = ""  # the host whose agents ask, in their own name or beside a user's token; "": somebody else
    is_agent: bool = False  # they ask in their own name: only about what is on their host

    @property
    def is_service(self) -> bool:
        """Whether one of our own services speaks (role `service`, or a service token beside the user's)."""
        return "service" in self.roles or "service" in self.service_roles


ANONYMOUS = Caller()
