"""SQL that counts servers, for status and dashboards."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.compute.server.store import servers


def tally(connection: Connection) -> dict[str, int]:
    """How many servers there are in each vm_state."""
    s = servers.c
    found = sa.select(s.vm_state, sa.func.count()).where(s.deleted_at.is_(None)).group_by(s.vm_state)
    return dict(connection.execute(found).all())
