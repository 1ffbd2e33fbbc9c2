"""Compute's API: every noun's routes and rules, mounted at /v2.1 with and without the project's id, and discovery."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from kilonova.base.faults import invalid
from kilonova.compute.aggregate import cache_images
from kilonova.compute.aggregate import resource as aggregate
from kilonova.compute.availability_zone import resource as availability_zone
from kilonova.compute.certificate import resource as certificate
from kilonova.compute.core import Compute
from kilonova.compute.extension import resource as extension
from kilonova.compute.flavor import access, extra_specs
from kilonova.compute.flavor import resource as flavor
from kilonova.compute.host import hypervisors, services
from kilonova.compute.keypair import resource as keypair
from kilonova.compute.limits import resource as limits
from kilonova.compute.quota import resource as quota
from kilonova.compute.scheduler import resource as scheduler
from kilonova.compute.server import (
    actions,
    attach_interface,
    attach_volume,
    backup,
    console,
    create,
    delete,
    diagnostics,
    external_events,
    lock,
    metadata,
    migrations,
    password,
    pause,
    reboot,
    rebuild,
    rescue,
    reset_state,
    resize,
    resize_confirm,
    resource,
    snapshot,
    soft_delete,
    start_stop,
    suspend,
    tags,
)
from kilonova.compute.server_group import resource as server_group
from kilonova.http.app import App
from kilonova.http.contract import Authenticator, Enforcer
from kilonova.http.faults import COMPUTE
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.http.versions import Versioning, written
from kilonova.policy.personas import base_rules
from kilonova.policy.rules import Rule

MIGRATIONS = "kilonova.compute.migrations"
MINIMUM, MAXIMUM = (2, 1), (2, 104)
VERSIONING = Versioning("compute", MINIMUM, MAXIMUM, MINIMUM, "x-openstack-nova-api-version")
_POWER = (soft_delete, start_stop, reboot, pause, suspend, password, diagnostics, reset_state)
_PLUG = (attach_volume, attach_interface, snapshot, backup)
_CHANGE = (resize, resize_confirm, rebuild, rescue, migrations)
_DONE = (*_POWER, *_PLUG, *_CHANGE)
_SERVER = (resource, create, delete, *_DONE, lock, metadata, tags, actions, console, external_events)
_HOSTS = (availability_zone, aggregate, cache_images, services, hypervisors, scheduler)
_NOUNS = (*_SERVER, server_group, flavor, extra_specs, access, keypair, certificate, quota, limits, *_HOSTS, extension)


def _version(request: Request[Any]) -> dict[str, Any]:
    return {
        "id": "v2.1",
        "status": "CURRENT",
        "version": written(MAXIMUM),
        "min_version": written(MINIMUM),
        "updated": "2013-07-23T11:33:21Z",
        "links": [{"rel": "self", "href": f"{request.origin}/v2.1/"}],
    }


async def versions(compute: Compute, request: Request[Any]) -> Answer:
    """GET /: which versions there are."""
    return Answer({"versions": [_version(request)]})


async def version(compute: Compute, request: Request[Any]) -> Answer:
    """GET /v2.1/: this version."""
    shown = _version(request)
    shown["links"].append({"rel": "describedby", "type": "text/html", "href": "http://docs.openstack.org/"})
    shown["media-types"] = [{"base": "application/json", "type": "application/vnd.openstack.compute+json;version=2.1"}]
    return Answer({"version": shown})


_OPEN = "discovery is for everybody"
_DISCOVERY = (
    Route(method="GET", path="/", handler=versions, open_because=_OPEN, needs_token=False),
    Route(method="GET", path="/v2.1", handler=version, open_because=_OPEN, needs_token=False),
)


def _mounted(routes: tuple[Route, ...]) -> tuple[Route, ...]:
    """The routes below /v2.1, and below /v2.1/{project_id} as catalogs of older clouds have it."""
    below = (replace(r, path=f"/v2.1/{{project_id}}{r.path}", handler=_of_project(r.handler)) for r in routes)
    return (*(replace(r, path=f"/v2.1{r.path}") for r in routes), *below)


def _of_project(handler: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """The handler, once the project in the path is the caller's own."""

    @functools.wraps(handler)
    async def checked(compute: Compute, request: Request[Any]) -> Any:
        named, own = request.path["project_id"], request.caller.project_id
        if own and named != own:
            raise invalid(f"Malformed request URL: URL's project_id '{named[:64]}' doesn't match Context's "
                          f"project_id '{own}'")  # fmt: skip
        return await handler(compute, request)

    return checked


ROUTES: tuple[Route, ...] = (*_DISCOVERY, *_mounted(tuple(route for noun in _NOUNS for route in noun.ROUTES)))
RULES: tuple[Rule, ...] = tuple(rule for noun in _NOUNS for rule in noun.RULES)
POLICY: tuple[Rule, ...] = (*base_rules, *RULES)


def compute_app(compute: Compute, authenticator: Authenticator, enforcer: Enforcer) -> App:
    """Compute's API as an ASGI application."""
    return App(
        compute.world,
        compute,
        ROUTES,
        participant="nova_api",
        style=COMPUTE,
        versioning=VERSIONING,
        authenticator=authenticator,
        enforcer=enforcer,
    )
