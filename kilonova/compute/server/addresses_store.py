"""Floating addresses in a server's own copy of its ports, so that reads never ask network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.compute.server.store import servers


def set_floating(connection: Connection, server_id: str, port_id: str, of: Mapping[str, Sequence[str]]) -> None:
    """The port's fixed addresses are reached by these floating ones, and by no others."""
    found = sa.select(servers.c.ports).where(servers.c.id == server_id).with_for_update()
    ports = connection.scalar(found) or []
    fixed_ips = [fixed for port in ports if port["id"] == port_id for fixed in port["fixed_ips"]]
    if not fixed_ips:
        return
    for fixed in fixed_ips:
        fixed["floating"] = list(of.get(fixed["address"], ()))
    connection.execute(servers.update().where(servers.c.id == server_id).values(ports=ports))
