"""A server's addresses: compute's own copy of what network says of its ports, brought up to date.

Reads never ask network; what changes there is told by events (external_events.py) and compared by a slow loop
(reconcile/addresses.py). Both come here.
"""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection

from kilonova.base.faults import conflict
from kilonova.compute.core import Compute
from kilonova.compute.server import ports_store, store
from kilonova.db.database import says
from kilonova.network.contract import PortBinding

TRIES = 5


async def refresh(compute: Compute, server_id: str, *, overtake: bool = False) -> bool:
    """Whether the copy was wrong, and now is right. CONFLICT when it changes faster than network can be asked.

    `overtake`: it is written in any case, so that nobody who asked network earlier writes after this."""
    for _ in range(TRIES):
        seen = await compute.db.read(_seen, server_id)
        if seen is None:
            return False
        known, revision = seen
        told = await compute.peers.networks.ports_of(await compute.peers.own_token(), server_id)
        ports = merged(known, told)
        if _shown(ports) == _shown(known) and not overtake:
            return False
        if await compute.db.write(_replace, server_id, revision, ports):
            return True
    raise conflict(f"The addresses of instance {server_id} change while they are looked at.", hint="Try again.")


async def drop(compute: Compute, server_id: str, port_id: str) -> None:
    """The port is not there any more."""
    await compute.db.write(forget, server_id, port_id)


def merged(known: list[PortBinding], told: list[PortBinding]) -> list[PortBinding]:
    """What network told, in the order of the server's NICs, with what only compute knows of each."""
    before = {port.id: (place, port) for place, port in enumerate(known)}
    for port in told:
        if port.id in before:
            _, old = before[port.id]
            port.tag, port.status = old.tag, old.status  # a host that starts the guest asks network for the status
            port.made_by_us = port.made_by_us or old.made_by_us
    return sorted(told, key=lambda port: before[port.id][0] if port.id in before else len(before))


def _shown(ports: list[PortBinding]) -> list[PortBinding]:
    return [msgspec.structs.replace(port, revision=0) for port in ports]


def _seen(connection: Connection, server_id: str) -> tuple[list[PortBinding], int] | None:
    server = store.find(connection, server_id)
    return None if server is None else (store.ports_of(server), server.ports_revision)


@says("servers: addresses as network says")
def _replace(connection: Connection, server_id: str, revision: int, ports: list[PortBinding]) -> bool:
    """False when somebody else wrote since `revision`."""
    return ports_store.replace(connection, server_id, revision, ports)


@says("servers: a port is gone")
def forget(connection: Connection, server_id: str, port_id: str) -> None:
    """The record does not have the port any more."""
    server = store.find(connection, server_id, lock=True)
    if server is None:
        return
    ports = store.ports_of(server)
    kept = [port for port in ports if port.id != port_id]
    if len(kept) < len(ports):
        ports_store.replace(connection, server_id, server.ports_revision, kept)
