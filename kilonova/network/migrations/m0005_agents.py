"""Agents, and events on their way to compute."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id, Name, Timestamp


def upgrade(op: Operations) -> None:
    """Make the tables."""
    op.create_table(
        "agents",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("agent_type", Id(), nullable=False),
        sa.Column("binary", Id(), nullable=False),
        sa.Column("host", Name(), nullable=False),
        sa.Column("topic", Id(), nullable=False),
        sa.Column("tunnel_ip", Id(), nullable=False),
        sa.Column("physical_networks", sa.JSON(), nullable=False),
        sa.Column("configurations", sa.JSON(), nullable=False),
        sa.Column("admin_state_up", sa.Boolean(), nullable=False),
        sa.Column("description", Name(), nullable=False),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.Column("started_at", Timestamp(), nullable=False),
        sa.Column("seen_at", Timestamp(), nullable=False),
        sa.UniqueConstraint("agent_type", "host", name="uq_agents_host"),
    )
    op.create_table(
        "outbox",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("event", Id(), nullable=False),
        sa.Column("server_id", Id(), nullable=False),
        sa.Column("port_id", Id(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("due_at", Timestamp(), nullable=False),
        sa.Column("created_at", Timestamp(), nullable=False),
    )
    op.create_index("ix_outbox_due_at", "outbox", ["due_at"])
