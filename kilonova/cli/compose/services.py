"""The services of the embedded cloud, wired to each other through their own doors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from kilonova.cli.compose.ground import Ground
from kilonova.identity import service as identity
from kilonova.identity.bootstrap import Plan, ServiceUserPlan, bootstrap, endpoint_plans
from kilonova.identity.core import IdentityService
from kilonova.image import service as image
from kilonova.node.images.store import FileStore

SERVICE_ROLES = {
    "nova": ("service", "admin"),
    "neutron": ("service", "admin"),
    "cinder": ("service", "admin"),
    "glance": ("service",),
    "placement": ("service",),
    "agent": ("service",),
}
ENDPOINTS = {
    "identity": "/identity/v3",
    "image": "/image",
    "placement": "/placement",
    "compute": "/compute/v2.1",
    "network": "/network",
    "block-storage": "/volume/v3",
    "volumev3": "/volume/v3",
}


@dataclass
class Services:
    """What `build` made."""

    identity: IdentityService
    image: image.ImageService
    closing: list[Callable[[], Awaitable[None]]] = field(default_factory=list)


async def build(ground: Ground) -> Services:
    """Every API mounted on the ground; nothing runs in the background yet."""
    made_identity = await _identity(ground)
    made_image = await _image(ground)
    return Services(made_identity, made_image)


async def _identity(ground: Ground) -> IdentityService:
    db = await ground.database("identity", "kilonova.identity.migrations")
    made = IdentityService(ground.world, db, ground.sealer, ground.settings.identity)
    policy = identity.identity_policy()
    ground.watch_policy("identity", policy)
    ground.mounts["/identity"] = identity.identity_app(made, enforcer=policy)
    secrets = ground.secrets
    users = tuple(
        ServiceUserPlan(name, secret, SERVICE_ROLES[name]) for name, secret in secrets.service_passwords.items()
    )
    urls = {type_: ground.url + path for type_, path in ENDPOINTS.items()}
    plan = Plan(secrets.admin_password, endpoint_plans(urls), users, user_password=secrets.member_password)
    await bootstrap(made, plan)
    return made


async def _image(ground: Ground) -> image.ImageService:
    db = await ground.database("image", image.MIGRATIONS)
    store = FileStore(ground.world, ground.state.directory / "images")
    made = image.ImageService(ground.world, db, store, ground.settings.image)
    await made.recover()
    policy = ground.policy("image", image.RULES)
    ground.mounts["/image"] = image.image_app(made, ground.validator, policy)
    return made
