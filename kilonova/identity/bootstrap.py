"""Bootstrap: what a new cloud's identity must hold before anybody can log in. Run at every start; mends what differs.

Domain `Default` (id `default`); roles admin → manager → member → reader, and service; projects admin and service; the
administrator; the services' own users; the region, the catalog; and a first project with its user.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from kilonova.identity import bootstrap_store
from kilonova.identity.bootstrap_store import Account, Grant, Wanted, WantedService
from kilonova.identity.token.login_store import find_user

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService

SERVICE_USERS = ("nova", "neutron", "glance", "cinder", "placement")
NAMES = {
    "identity": "keystone",
    "image": "glance",
    "placement": "placement",
    "compute": "nova",
    "network": "neutron",
    "block-storage": "cinder",
    "volumev3": "cinderv3",
}


class ServiceUserPlan(msgspec.Struct, frozen=True):
    """A service's or an agent's own user. `secret` holds 256 random bits (world.ids.secret())."""

    name: str
    secret: str
    roles: tuple[str, ...] = ("service",)

    def __repr__(self) -> str:
        return f"ServiceUserPlan({self.name})"


class EndpointPlan(msgspec.Struct, frozen=True):
    """A service of the catalog; URLs may hold `$(project_id)s`. What is left empty is as `public`."""

    type: str
    public: str
    internal: str = ""
    admin: str = ""
    name: str = ""


class Plan(msgspec.Struct, frozen=True):
    """What there shall be. `project` "" makes no first project; `user_password` "" no first user."""

    admin_password: str
    endpoints: tuple[EndpointPlan, ...]
    service_users: tuple[ServiceUserPlan, ...] = ()
    region: str = "RegionOne"
    admin_name: str = "admin"
    project: str = "demo"
    user: str = "demo"
    user_password: str = ""
    reset_passwords: bool = False  # of people too, not only of services

    def __repr__(self) -> str:
        return f"Plan({self.region}, {[one.type for one in self.endpoints]})"


class Bootstrapped(msgspec.Struct, frozen=True):
    """Ids of what others need to know."""

    admin_user_id: str
    admin_project_id: str
    service_project_id: str
    project_id: str  # "" when the plan has none
    user_ids: dict[str, str]
    role_ids: dict[str, str]


def endpoint_plans(urls: dict[str, str], internal: dict[str, str] | None = None) -> tuple[EndpointPlan, ...]:
    """Endpoint plans of {service type: public URL}, with the classic names; internal URLs where they differ."""
    inside = internal or {}
    return tuple(
        EndpointPlan(type_, url, inside.get(type_, ""), "", NAMES.get(type_, "")) for type_, url in urls.items()
    )


async def bootstrap(identity: IdentityService, plan: Plan) -> Bootstrapped:
    """The ids of what the plan asks for, all of it there.

    Services' secrets are set to the plan's; a person's password only when the user is new (people change theirs), or
    when `reset_passwords` asks for it.
    """
    accounts = [Account(plan.admin_name, await _hash_for(identity, plan, plan.admin_name, plan.admin_password))]
    grants = [Grant(plan.admin_name, "admin", "admin"), Grant(plan.admin_name, "admin", "")]
    for service in plan.service_users:
        accounts.append(Account(service.name, identity.passwords.hash_machine_secret(service.secret)))
        grants += [Grant(service.name, role, "service") for role in service.roles]
    projects = ["admin", "service"]
    if plan.project:
        projects.append(plan.project)
        grants.append(Grant(plan.admin_name, "admin", plan.project))
    if plan.project and plan.user_password:
        accounts.append(
            Account(plan.user, await _hash_for(identity, plan, plan.user, plan.user_password), plan.project)
        )
        grants.append(Grant(plan.user, "member", plan.project))
    wanted = Wanted(
        tuple(projects),
        tuple(accounts),
        tuple(grants),
        plan.region,
        tuple(
            WantedService(
                one.type,
                one.name or NAMES.get(one.type, one.type),
                {"public": one.public, "internal": one.internal or one.public, "admin": one.admin or one.public},
            )
            for one in plan.endpoints
        ),
    )
    made = await identity.change(bootstrap_store.apply, wanted, identity.world.ids.hex32)
    return Bootstrapped(
        admin_user_id=made.users[plan.admin_name],
        admin_project_id=made.projects["admin"],
        service_project_id=made.projects["service"],
        project_id=made.projects.get(plan.project, ""),
        user_ids=made.users,
        role_ids=made.roles,
    )


async def _hash_for(identity: IdentityService, plan: Plan, name: str, password: str) -> str:
    """What to store for a person: the hash that is there already, unless passwords are to be reset."""
    known = await identity.db.read(find_user, "", name, "default", "")
    if known is not None and not plan.reset_passwords:
        return known.password_hash
    return await identity.passwords.hash(password)
