"""Hosts by when they reported last: schedulers ask every second which ones did."""

from __future__ import annotations

from alembic.operations import Operations


def upgrade(op: Operations) -> None:
    """Add the index, which holds all that is asked for: a host's record is large, and is not looked at."""
    op.create_index("ix_compute_host_reported", "compute_host", ["reported_at", "name", "provider_id"])
