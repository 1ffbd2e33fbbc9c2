"""The server's ports on its record: what network says of them, told at different times by different ways."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.compute.server.store import servers
from kilonova.db.statements import Statement
from kilonova.network.contract import PortBinding

_OF_SERVER: sa.BindParameter[str] = sa.bindparam("server")
_PORTS = Statement(sa.select(servers.c.ports).where(servers.c.id == _OF_SERVER).with_for_update())
_REPLACE_PORTS = Statement(
    sa.update(servers)
    .where(servers.c.id == _OF_SERVER, servers.c.deleted_at.is_(None))
    .where(servers.c.ports_revision == sa.bindparam("seen"))
    .values(ports=sa.bindparam("told", type_=servers.c.ports.type), ports_revision=servers.c.ports_revision + 1)
)


def with_told(connection: Connection, server_id: str, ports: list[PortBinding]) -> list[PortBinding]:
    """The server's ports, as network gave them, with what network told of them meanwhile."""
    kept = _PORTS.scalar(connection, server=server_id) or []
    newer = {port.id: port for port in msgspec.convert(kept, list[PortBinding])}
    for port in ports:
        if (told := newer.get(port.id)) and told.revision > port.revision:
            port.fixed_ips, port.floating, port.security_groups = told.fixed_ips, told.floating, told.security_groups
            port.revision = told.revision
    return ports


def replace(connection: Connection, server_id: str, revision: int, ports: list[PortBinding]) -> bool:
    """Write the server's ports if nobody did since `revision`; whether that was so."""
    told = msgspec.to_builtins(ports)
    return _REPLACE_PORTS.change(connection, server=server_id, seen=revision, told=told) > 0
