"""An identity service in this process, bootstrapped, and logins to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from cryptography.fernet import Fernet

from kilonova.base.world import LiveWorld
from kilonova.db.inline import InlineDatabase
from kilonova.db.migrations import ensure_current
from kilonova.http.app import App
from kilonova.http.client import AsgiTransport, Client, Reply
from kilonova.identity.bootstrap import Bootstrapped, Plan, ServiceUserPlan, bootstrap, endpoint_plans
from kilonova.identity.core import IdentityService
from kilonova.identity.service import MIGRATIONS, identity_app
from kilonova.identity.settings import IdentitySettings
from kilonova.saga.seal import Sealer
from tests.api.support import ApiClient

ADMIN_PASSWORD = "correct horse"
DEMO_PASSWORD = "battery-staple"
NOVA_SECRET = "n" * 43
DEFAULT = {"id": "default"}


@dataclass
class Cloud:
    """Identity and how to reach it."""

    service: IdentityService
    app: App
    made: Bootstrapped
    plan: Plan

    @property
    def client(self) -> Client:
        return Client(AsgiTransport(self.app))

    async def send(self, method: str, path: str, json: Any = None, token: str = "", **headers: str) -> Reply:
        return await ApiClient(self.app, token).send(method, path, json, **headers)

    async def login(self, name: str, password: str, scope: Any = None, domain: Any = None) -> str:
        """The token of a user, or AssertionError."""
        reply = await self.try_login(name, password, scope, domain)
        assert reply.status == 201, reply.content
        return reply.headers["x-subject-token"]

    async def try_login(self, name: str, password: str, scope: Any = None, domain: Any = None) -> Reply:
        user = {"name": name, "password": password, "domain": domain or DEFAULT}
        auth: dict[str, Any] = {"identity": {"methods": ["password"], "password": {"user": user}}}
        if scope is not None:
            auth["scope"] = scope
        return await self.send("POST", "/v3/auth/tokens", {"auth": auth})

    async def admin(self) -> ApiClient:
        """A client that is the administrator on project admin."""
        return ApiClient(self.app, await self.login("admin", ADMIN_PASSWORD, project("admin")))

    async def user(self, admin: ApiClient, name: str, role: str = "", **scope: str) -> dict[str, Any]:
        """A new user with password `name`, and a role on project_id=, domain_id= or system="all"."""
        made = (await admin.post("/v3/users", {"user": {"name": name, "password": name}}, 201))["user"]
        if role:
            role_id = self.made.role_ids[role]
            where = (
                f"projects/{scope['project_id']}"
                if "project_id" in scope
                else f"domains/{scope['domain_id']}"
                if "domain_id" in scope
                else "system"
            )
            await admin.put(f"/v3/{where}/users/{made['id']}/roles/{role_id}", None, 204)
        return dict(made)


def project(name: str, domain_id: str = "default") -> dict[str, Any]:
    """The scope of a project by name."""
    return {"project": {"name": name, "domain": {"id": domain_id}}}


@asynccontextmanager
async def cloud(settings: IdentitySettings | None = None) -> AsyncIterator[Cloud]:
    """A bootstrapped identity over a database in memory."""
    world = LiveWorld("identity-test")
    db = InlineDatabase("identity", world.clock)
    await ensure_current(db, MIGRATIONS)
    service = IdentityService(world, db, Sealer([Fernet.generate_key().decode()]), settings)
    plan = Plan(
        ADMIN_PASSWORD,
        endpoint_plans({"identity": "http://localhost/v3", "volumev3": "http://localhost/volume/v3/$(project_id)s"}),
        (ServiceUserPlan("nova", NOVA_SECRET),),
        user_password=DEMO_PASSWORD,
    )
    made = await bootstrap(service, plan)
    try:
        yield Cloud(service, identity_app(service), made, plan)
    finally:
        await world.close()


def by_trust(trust_id: str) -> dict[str, Any]:
    """The scope of a trust."""
    return {"OS-TRUST:trust": {"id": trust_id}}


async def trust(cloud: Cloud, trustor: ApiClient, trustee_id: str, **more: Any) -> Any:
    """A trust of demo's with some of its roles on its project; the reply, whatever it is."""
    body = {
        "trustor_user_id": cloud.made.user_ids["demo"],
        "trustee_user_id": trustee_id,
        "project_id": cloud.made.project_id,
        "impersonation": False,
        "roles": [{"name": "reader"}],
    }
    return await trustor.send("POST", "/v3/OS-TRUST/trusts", {"trust": body | more})


async def demo(cloud: Cloud) -> ApiClient:
    """A client that is the user demo on its project."""
    return ApiClient(cloud.app, await cloud.login("demo", DEMO_PASSWORD))
