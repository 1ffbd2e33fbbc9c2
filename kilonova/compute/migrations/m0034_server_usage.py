"""What a project's quota is counted by stands in an index: counting a thousand servers reads none of them."""

from __future__ import annotations

from alembic.operations import Operations


def upgrade(op: Operations) -> None:
    """Add the index; the one on the project alone is the beginning of two others."""
    op.create_index(
        "ix_server_usage", "server", ["project_id", "deleted_at", "vm_state", "vcpus", "memory_mb", "user_id"]
    )
    op.drop_index("ix_server_project_id", "server")
