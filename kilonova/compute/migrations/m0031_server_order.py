"""A project's servers in the order in which lists show them."""

from __future__ import annotations

from alembic.operations import Operations


def upgrade(op: Operations) -> None:
    """Add the index."""
    op.create_index("ix_server_project_created", "server", ["project_id", "created_at", "id"])
