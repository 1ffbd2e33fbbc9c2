"""What is under way on a server: its operations that have not ended."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.compute.schema import journal
from kilonova.db.statements import Statement
from kilonova.saga.journal import UNFINISHED

_OPERATIONS = journal.operations.c
_UNFINISHED = Statement(
    sa.select(_OPERATIONS.id, _OPERATIONS.kind)
    .where(_OPERATIONS.resource_id == sa.bindparam("server"), _OPERATIONS.state.in_((*UNFINISHED, "superseded")))
    .order_by(_OPERATIONS.created_at)
)


def unfinished_operations(connection: Connection, server_id: str) -> list[tuple[str, str]]:
    """(id, kind) of the operations on a server that have not ended, stuck ones too."""
    return [(id_, kind) for id_, kind in _UNFINISHED.all(connection, server=server_id)]
