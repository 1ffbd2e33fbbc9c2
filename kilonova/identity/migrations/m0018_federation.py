"""Federation: providers, protocols, mappings, and the users that came from there."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id, Name, Text


def upgrade(op: Operations) -> None:
    """Make the tables."""
    op.create_table(
        "identity_provider",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("domain_id", Id(), sa.ForeignKey("domain.id", ondelete="CASCADE"), nullable=False),
        sa.Column("description", Text(), nullable=True),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("remote_ids", sa.JSON(), nullable=False),
    )
    op.create_table(
        "federation_mapping",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("rules", sa.JSON(), nullable=False),
    )
    op.create_table(
        "federation_protocol",
        sa.Column("provider_id", Id(), sa.ForeignKey("identity_provider.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("id", Id(), primary_key=True),
        sa.Column("mapping_id", Id(), sa.ForeignKey("federation_mapping.id"), nullable=False),
    )
    op.create_table(
        "federated_user",
        sa.Column("provider_id", Id(), sa.ForeignKey("identity_provider.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("unique_id", Name(), primary_key=True),
        sa.Column("user_id", Id(), sa.ForeignKey("user_account.id", ondelete="CASCADE"), nullable=False, index=True),
        sa.Column("protocol_id", Id(), nullable=False),
    )
    op.create_table(
        "federated_member",
        sa.Column("user_id", Id(), sa.ForeignKey("user_account.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("group_id", Id(), sa.ForeignKey("user_group.id", ondelete="CASCADE"), primary_key=True),
    )
