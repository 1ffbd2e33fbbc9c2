"""A small service with every kind of route, for tests of the door that all services share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any

import msgspec

from kilonova.base.caller import Caller
from kilonova.base.faults import conflict, forbidden, unauthenticated
from kilonova.base.world import LiveWorld
from kilonova.http.app import App
from kilonova.http.faults import COMPUTE, FaultStyle
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.http.schema import since, until
from kilonova.http.versions import Versioning

VERSIONS = Versioning("compute", (2, 1), (2, 96), (2, 1), "x-openstack-nova-api-version")


class Lamp(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    watts: int = 40
    tags: Annotated[list[str], since("2.52")] = []
    old: Annotated[str, until("2.35")] = ""


class Users:
    """Knows alice, by her token."""

    async def authenticate(self, token: str, service_token: str) -> Caller:
        if token != "alice":
            raise unauthenticated()
        return Caller(user_id="alice", project_id="p1", roles=("member",))


class Rules:
    """Allows everything but what is named forbidden."""

    def enforce(self, rule: str, caller: Caller, target: Mapping[str, Any]) -> None:
        if not self.allows(rule, caller, target):
            raise forbidden(f"Policy does not allow {rule} to be performed.")

    def allows(self, rule: str, caller: Caller, target: Mapping[str, Any]) -> bool:
        return rule != "lamps:forbidden"


async def show(service: Any, request: Request[Any]) -> Any:
    request.enforce()
    return {"path": request.path, "version": list(request.version), "user": request.caller.user_id}


async def detail(service: Any, request: Request[Any]) -> Any:
    request.enforce()
    return {"detail": True}


async def create(service: Any, request: Request[Lamp]) -> Any:
    request.enforce()
    return Answer({"lamp": msgspec.to_builtins(request.body)}, headers={"Location": f"{request.origin}/lamps/1"})


async def forgetful(service: Any, request: Request[Any]) -> Any:
    return {"secret": "shown without asking"}


async def clash(service: Any, request: Request[Any]) -> Any:
    request.enforce()
    raise conflict("The lamp is locked.", hint="Unlock it.", code="Locked", inside="row 7 of /var/lib/x")


async def explode(service: Any, request: Request[Any]) -> Any:
    request.enforce()
    raise KeyError("inner thing")


async def start(service: Any, request: Request[Any]) -> None:
    request.enforce()


async def upload(service: Any, request: Request[Any]) -> Any:
    request.enforce()
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
    return {"bytes": size}


async def download(service: Any, request: Request[Any]) -> Any:
    request.enforce()

    async def chunks() -> AsyncIterator[bytes]:
        for number in range(50):
            yield bytes([number]) * 10_000

    return Answer(stream=chunks(), content_type="application/octet-stream")


ROUTES = [
    Route(method="GET", path="/", handler=forgetful, open_because="versions are public", needs_token=False),
    Route(method="GET", path="/lamps/{lamp_id}", handler=show, policy="lamps:show"),
    Route(method="GET", path="/lamps/detail", handler=detail, policy="lamps:list"),
    Route(method="POST", path="/lamps", handler=create, policy="lamps:create", body=Lamp, envelope="lamp", success=201),
    Route(method="DELETE", path="/lamps/{lamp_id}", handler=start, policy="lamps:delete", success=204),
    Route(method="GET", path="/forgetful", handler=forgetful, policy="lamps:show"),
    Route(method="GET", path="/forbidden", handler=show, policy="lamps:forbidden"),
    Route(method="GET", path="/clash", handler=clash, policy="lamps:show"),
    Route(method="GET", path="/explode", handler=explode, policy="lamps:show"),
    Route(method="GET", path="/new", handler=show, policy="lamps:show", since="2.50"),
    Route(method="POST", path="/lamps/{id}/action", handler=start, policy="lamps:a", action="os-start", success=202),
    Route(method="POST", path="/lamps/{id}/action", handler=start, policy="lamps:b", action="os-stop", success=202),
    Route(method="PUT", path="/files/{name:path}", handler=upload, policy="lamps:put", raw=True),
    Route(method="GET", path="/files/{name:path}", handler=download, policy="lamps:get"),
]


def door(style: FaultStyle = COMPUTE) -> App:
    """The service's application."""
    return App(
        LiveWorld("lamps"),
        None,
        ROUTES,
        participant="lamps",
        style=style,
        versioning=VERSIONS,
        authenticator=Users(),
        enforcer=Rules(),
    )
