"""The metadata service: what a guest reads at 169.254.169.254, in OpenStack's and EC2's trees.

A metadata proxy on the guest's network says which server asks (X-Instance-ID) and signs it with a secret that it
shares with this service; nothing that a guest sends is believed.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

from sqlalchemy import Connection

from kilonova.base.faults import Fault, Kind, conflict, forbidden, invalid, not_found
from kilonova.compute.conductor import as_host_sees
from kilonova.compute.contract import ServerForHost
from kilonova.compute.core import Compute
from kilonova.compute.metadata_tree import (
    EC2_VERSIONS,
    OPENSTACK_VERSIONS,
    ec2_answer,
    ec2_metadata,
    openstack_files,
    personality_files,
    user_data_of,
)
from kilonova.compute.server import addresses, password_store, store
from kilonova.db.database import says
from kilonova.http.app import App
from kilonova.http.faults import FaultStyle
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route

PASSWORD_LONGEST_BYTES = 1024  # as much as OpenStack keeps
TEXT = "text/plain; charset=utf-8"


@says("servers: read what the guest may know of itself")
def _read(connection: Connection, server_id: str) -> ServerForHost | None:
    server = store.find(connection, server_id)
    if server is None:
        return None
    return as_host_sees(server, store.devices_of(connection, server_id), store.tags_of(connection, server_id))


async def _asker(compute: Compute, request: Request[Any]) -> ServerForHost:
    """The server that asks, as the proxy swears."""
    server_id = request.headers.get("x-instance-id", "")
    signature = request.headers.get("x-instance-id-signature", "")
    secret = compute.settings.metadata_secret.encode()
    wanted = hmac.new(secret, server_id.encode(), hashlib.sha256).hexdigest()
    if not secret or not server_id or not hmac.compare_digest(wanted.encode(), signature.encode()):
        raise forbidden("Invalid proxy request signature.")
    server = await compute.db.read(_read, server_id)
    if server is not None and server.port_requests and not server.ports:
        # a guest that runs before its build is recorded: what it asks with now is how it will come up each time
        await addresses.refresh(compute, server_id)
        server = await compute.db.read(_read, server_id)
    if server is None or server.project_id != request.headers.get("x-tenant-id", server.project_id):
        raise not_found("Metadata of the server", server_id[:64])
    return server


async def root(compute: Compute, request: Request[Any]) -> Answer:
    """GET /: EC2's versions."""
    await _asker(compute, request)
    return _text("\n".join([*EC2_VERSIONS]))


async def openstack(compute: Compute, request: Request[Any]) -> Answer:
    """GET /openstack…: versions, a version's files, one of them, or a file of the user's."""
    server = await _asker(compute, request)
    version, _, name = request.path.get("rest", "").strip("/").partition("/")
    if not version:
        return _text("\n".join(OPENSTACK_VERSIONS))
    if version == "content":
        return _file(personality_files(server), f"content/{name}")
    if version not in OPENSTACK_VERSIONS:
        raise not_found("Metadata", version[:40])
    files = openstack_files(server)
    return _file(files, name) if name else _text("\n".join(sorted(files)))


async def password(compute: Compute, request: Request[Any]) -> Answer:
    """GET /openstack/VERSION/password: what this guest posted."""
    server = await _asker(compute, request)
    _known(request)
    return _text(await compute.db.read(password_store.posted, server.id))


async def post_password(compute: Compute, request: Request[Any]) -> Answer:
    """POST /openstack/VERSION/password: once, until the server's owner forgets it."""
    server = await _asker(compute, request)
    _known(request)
    posted = await request.read(PASSWORD_LONGEST_BYTES)
    try:
        text = posted.decode("ascii")
    except UnicodeDecodeError:
        raise invalid("The password is not ASCII text.", hint="Encrypt it, and post it in base64.") from None
    if not await compute.db.write(password_store.keep, server.id, text):
        raise conflict("A password is there already.", hint="Its owner clears it: DELETE …/os-server-password.")
    return _text("")


def _known(request: Request[Any]) -> None:
    if request.path["version"] not in OPENSTACK_VERSIONS:
        raise not_found("Metadata", request.path["version"][:40])


async def ec2(compute: Compute, request: Request[Any]) -> Answer:
    """GET /VERSION/meta-data/… and /VERSION/user-data."""
    if request.path["version"] not in EC2_VERSIONS:
        raise not_found("Metadata", request.path["version"][:40])
    server = await _asker(compute, request)
    part, _, path = request.path.get("rest", "").strip("/").partition("/")
    user_data = user_data_of(server)
    if not part:
        return _text("meta-data/\nuser-data" if user_data else "meta-data/")
    if part == "user-data" and user_data:
        return Answer(user_data, content_type="application/octet-stream")
    answer = ec2_answer(ec2_metadata(server), path) if part == "meta-data" else None
    if answer is None:
        raise not_found("Metadata", f"{part}/{path}"[:80])
    return _text(answer)


def _file(files: dict[str, bytes], name: str) -> Answer:
    if name not in files:
        raise not_found("Metadata", name[:80])
    return Answer(
        files[name], content_type="application/json" if name.endswith(".json") else "application/octet-stream"
    )


def _text(text: str) -> Answer:
    return Answer(text.encode(), content_type=TEXT)


def _body(fault: Fault, status: int, _request_id: str) -> Any:
    return {"code": status, "message": fault.told}


_OPEN = "the proxy's signature says who asks"
_PATHS = (
    ("/", root),
    ("/openstack", openstack),
    ("/openstack/{version}/password", password),
    ("/openstack/{rest:path}", openstack),
    ("/{version}", ec2),
    ("/{version}/{rest:path}", ec2),
)
ROUTES = (
    *(Route(method="GET", path=path, handler=one, open_because=_OPEN, needs_token=False) for path, one in _PATHS),
    Route(
        method="POST",
        path="/openstack/{version}/password",
        handler=post_password,
        open_because=_OPEN,
        needs_token=False,
        raw=True,
    ),
)


def metadata_app(compute: Compute) -> App:
    """The metadata service as an ASGI application."""
    style = FaultStyle(_body, {Kind.FORBIDDEN: 403})
    return App(compute.world, compute, ROUTES, participant="nova_metadata", style=style)
