"""Routers and floating IPs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id, Name, Timestamp


def upgrade(op: Operations) -> None:
    """Make the tables."""
    op.create_table(
        "routers",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("project_id", Id(), nullable=False),
        sa.Column("name", Name(), nullable=False),
        sa.Column("description", Name(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.Column("updated_at", Timestamp(), nullable=False),
        sa.Column("admin_state_up", sa.Boolean(), nullable=False),
        sa.Column("host", Name(), nullable=False),
        sa.Column("gateway_network_id", Id(), nullable=False),
        sa.Column("gateway_port_id", Id(), nullable=False),
        sa.Column("snat", sa.Boolean(), nullable=False),
        sa.Column("routes", sa.JSON(), nullable=False),
    )
    op.create_index("ix_routers_gateway_network_id", "routers", ["gateway_network_id"])
    op.create_index("ix_routers_host", "routers", ["host"])
    op.create_index("ix_routers_project_id", "routers", ["project_id"])
    op.create_table(
        "floating_ips",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("project_id", Id(), nullable=False),
        sa.Column("name", Name(), nullable=False),
        sa.Column("description", Name(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.Column("updated_at", Timestamp(), nullable=False),
        sa.Column("network_id", Id(), nullable=False),
        sa.Column("own_port_id", Id(), nullable=False),
        sa.Column("address", Id(), nullable=False),
        sa.Column("port_id", Id(), nullable=True),
        sa.Column("fixed_ip", Id(), nullable=True),
        sa.Column("router_id", Id(), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.UniqueConstraint("port_id", "fixed_ip", name="uq_floating_ips_fixed"),
    )
    op.create_index("ix_floating_ips_network_id", "floating_ips", ["network_id"])
    op.create_index("ix_floating_ips_own_port_id", "floating_ips", ["own_port_id"])
    op.create_index("ix_floating_ips_port_id", "floating_ips", ["port_id"])
    op.create_index("ix_floating_ips_project_id", "floating_ips", ["project_id"])
    op.create_index("ix_floating_ips_router_id", "floating_ips", ["router_id"])
