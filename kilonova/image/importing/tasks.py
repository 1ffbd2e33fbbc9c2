"""How operations tell their tasks how they go, in the transactions of what they do."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection

from kilonova.base.faults import Fault, Kind
from kilonova.image.task import store

KEPT = timedelta(hours=48)  # tasks are told of so long after their end


def tell(connection: Connection, task_id: str, status: str, message: str) -> None:
    """The task is under way."""
    store.change(connection, task_id, {"status": status, "message": message})


def end_task(connection: Connection, task_id: str, result: dict[str, str], now: datetime, warning: str = "") -> None:
    """The task has succeeded; its user may be warned of something all the same."""
    ended = {"status": "success", "message": warning, "result": result}
    store.change(connection, task_id, {**ended, "updated_at": now, "expires_at": now + KEPT})


def failed_task(connection: Connection, task_id: str, fault: Fault, now: datetime) -> None:
    """The task has failed, and says why as far as its owner may know."""
    why = "Task failed due to Internal Error" if fault.kind is Kind.BUG else fault.told
    ended = {"status": "failure", "message": why}
    store.change(connection, task_id, {**ended, "updated_at": now, "expires_at": now + KEPT})
