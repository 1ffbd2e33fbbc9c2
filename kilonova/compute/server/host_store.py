"""SQL about which servers live on which host."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.compute.server.store import servers


def by_host(connection: Connection) -> tuple[dict[str, list[str]], dict[str, int]]:
    """(host → ids of its servers, host → how many of them are at work), for the scheduler."""
    s = servers.c
    living: dict[str, list[str]] = {}
    busy: dict[str, int] = {}
    found = sa.select(s.host, s.id, s.task_state).where(s.deleted_at.is_(None), s.host != "")
    for host, server_id, task_state in connection.execute(found):
        living.setdefault(host, []).append(server_id)
        if task_state:
            busy[host] = busy.get(host, 0) + 1
    return living, busy


def tally(connection: Connection) -> dict[str, int]:
    """How many servers there are in each vm_state."""
    s = servers.c
    found = sa.select(s.vm_state, sa.func.count()).where(s.deleted_at.is_(None)).group_by(s.vm_state)
    return dict(connection.execute(found).tuples().all())
