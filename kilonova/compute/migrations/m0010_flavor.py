"""Flavors and the projects that may use private ones."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id, Name, Text, Timestamp


def upgrade(op: Operations) -> None:
    """Make the tables."""
    op.create_table(
        "flavor",
        sa.Column("id", Name(), primary_key=True),
        sa.Column("name", Name(), nullable=False, unique=True),
        sa.Column("vcpus", sa.Integer, nullable=False),
        sa.Column("memory_mb", sa.Integer, nullable=False),
        sa.Column("root_gb", sa.Integer, nullable=False),
        sa.Column("ephemeral_gb", sa.Integer, nullable=False),
        sa.Column("swap_mb", sa.Integer, nullable=False),
        sa.Column("rxtx_factor", sa.Double, nullable=False),
        sa.Column("is_public", sa.Boolean, nullable=False),
        sa.Column("description", Text()),
        sa.Column("extra_specs", sa.JSON, nullable=False),
        sa.Column("created_at", Timestamp(), nullable=False),
    )
    op.create_table(
        "flavor_access",
        sa.Column("flavor_id", Name(), primary_key=True),
        sa.Column("project_id", Id(), primary_key=True),
    )
    op.create_index("ix_flavor_access_project_id", "flavor_access", ["project_id"])
