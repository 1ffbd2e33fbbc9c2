"""The action log of a server, read from the journal of its operations: nothing is written for it by hand."""

from __future__ import annotations

from datetime import datetime

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import invalid
from kilonova.compute.schema import journal
from kilonova.saga.journal import OperationRow, StepRow


class Range(msgspec.Struct):
    """Which actions, newest first: changed in [since, before], after the marker, at most `limit`."""

    limit: int | None = None
    marker: str | None = None  # a request id
    since: datetime | None = None
    before: datetime | None = None


def actions_of(connection: Connection, server_id: str, wanted: Range) -> list[OperationRow]:
    """The operations on a server; a marker that is none of theirs is INVALID."""
    o = journal.operations.c
    changed = sa.func.coalesce(o.finished_at, o.updated_at, o.created_at)
    found = sa.select(journal.operations).where(o.resource_id == server_id)
    if wanted.since is not None:
        found = found.where(changed >= wanted.since)
    if wanted.before is not None:
        found = found.where(changed <= wanted.before)
    if wanted.marker is not None:
        at = connection.execute(
            sa.select(o.created_at, o.id).where(o.resource_id == server_id, o.request_id == wanted.marker)
        ).first()
        if at is None:
            raise invalid(f"marker [{wanted.marker[:60]}] not found", hint="Start again without a marker.")
        found = found.where(sa.or_(o.created_at < at[0], sa.and_(o.created_at == at[0], o.id < at[1])))
    found = found.order_by(o.created_at.desc(), o.id.desc())
    rows = connection.execute(found if wanted.limit is None else found.limit(wanted.limit)).mappings()
    return [OperationRow(**row) for row in rows]


def action(connection: Connection, server_id: str, request_id: str) -> tuple[OperationRow, list[StepRow]] | None:
    """The operation that a request began on a server, with its steps; None when there is none such."""
    o = journal.operations.c
    found = sa.select(journal.operations).where(o.resource_id == server_id, o.request_id == request_id)
    row = connection.execute(found.order_by(o.created_at.desc())).mappings().first()
    if row is None:
        return None
    operation = OperationRow(**row)
    return operation, journal.steps_of(connection, operation.id)
