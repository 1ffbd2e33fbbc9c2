"""What a new token is good for: the scope asked for, or the user's default project, or what was delegated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, UnsetType

from kilonova.base.faults import forbidden, invalid, unauthenticated
from kilonova.identity import answers
from kilonova.identity.oauth1.store import AccessToken
from kilonova.identity.token import login_store
from kilonova.identity.token.bodies import DomainName, ProjectName, Scope
from kilonova.identity.token.payload import ScopeKind
from kilonova.identity.token.validate import Validated
from kilonova.identity.trust.store import Trust
from kilonova.identity.trust.store import get as get_trust

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService

Wanted = tuple[ScopeKind, str]


class Proof(msgspec.Struct):
    """Who it is, proven, and what that leaves to be chosen."""

    user_id: str
    methods: set[str]
    default_project_id: str = ""
    from_token: Validated | None = None
    credential_id: str = ""
    credential_project_id: str = ""
    trust: Trust | None = None
    access_token: AccessToken | None = None
    options: dict[str, Any] = {}
    failed: bool = False  # wrong passwords or passcodes were counted before


async def choose(service: IdentityService, asked: Scope | str | UnsetType, proof: Proof) -> Wanted:
    """The scope that was asked for, by id. One that does not exist looks like one without a role there."""
    if proof.access_token is not None:
        if asked is not UNSET:
            raise unauthenticated(inside="an OAuth1 access token cannot ask for a scope")
        return "project", proof.access_token.project_id
    if proof.credential_id:
        return _of_credential(asked, proof)
    if asked is UNSET:
        return await _default(service, proof)
    if isinstance(asked, str):
        if asked != "unscoped":
            raise invalid("Invalid input for field auth.scope: it is an object, or the word 'unscoped'.")
        return "", ""
    assert isinstance(asked, Scope)
    kinds = ("project", "domain", "system", "trust", "unscoped")
    if len([kind for kind in kinds if getattr(asked, kind) is not None]) != 1:
        raise invalid(
            "Invalid input for field auth.scope: give exactly one of project, domain, system, OS-TRUST:trust, unscoped."
        )
    if asked.project:
        return "project", await _project(service, asked.project)
    if asked.domain:
        return "domain", await _domain(service, asked.domain)
    if asked.trust:
        return await _of_trust(service, asked.trust.id, proof)
    if asked.system is not None:
        if asked.system.get("all") is not True:
            raise invalid("Invalid input for field auth.scope.system: only {'all': true} is known.")
        return "system", "all"
    return "", ""


async def _project(service: IdentityService, asked: ProjectName) -> str:
    domain = asked.domain or DomainName()
    if not asked.id and not (asked.name and (domain.id or domain.name)):
        raise invalid("Invalid input for field auth.scope.project: give id, or name and domain.")
    return await service.db.read(login_store.find_project, asked.id, asked.name, domain.id, domain.name)


async def _domain(service: IdentityService, asked: DomainName) -> str:
    if not asked.id and not asked.name:
        raise invalid("Invalid input for field auth.scope.domain: give id or name.")
    return await service.db.read(login_store.find_domain, asked.id, asked.name)


def _of_credential(asked: Scope | str | UnsetType, proof: Proof) -> Wanted:
    """An application credential is good for its own project only."""
    if asked is not UNSET:
        same = isinstance(asked, Scope) and asked.project and asked.project.id == proof.credential_project_id
        if proof.from_token is None or not same:
            raise unauthenticated(inside="an application credential cannot ask for a scope")
    return "project", proof.credential_project_id


async def _of_trust(service: IdentityService, trust_id: str, proof: Proof) -> Wanted:
    """The project of the trust, when the user is its trustee; the proof speaks for the trustor when it impersonates."""
    trust = await service.db.read(get_trust, trust_id)
    if trust is None or trust.has_passed(service.world.clock.now()):
        raise answers.missing("trust", trust_id)
    if trust.trustee_user_id != proof.user_id:
        raise forbidden("User is not a trustee.")
    if trust.project_id is None:
        raise forbidden("The trust delegates nothing: it has no project.")
    proof.trust = trust
    if trust.impersonation:
        proof.user_id = trust.trustor_user_id
    return "project", trust.project_id


async def _default(service: IdentityService, proof: Proof) -> Wanted:
    """The user's default project when it has a role there; a token keeps none."""
    if not proof.default_project_id or proof.from_token is not None:
        return "", ""
    usable = await service.db.read(login_store.is_usable, proof.user_id, proof.default_project_id)
    return ("project", proof.default_project_id) if usable else ("", "")
