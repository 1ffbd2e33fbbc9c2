"""Who is on a network, and in a group, is found without reading all of their ports."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Name


def upgrade(op: Operations) -> None:
    """Indexes that hold what is asked, and each membership's host."""
    op.create_index("ix_ports_network", "ports", ["network_id", "host", "vif_type"])
    op.create_index("ix_ports_owner", "ports", ["network_id", "device_owner", "host"])
    op.create_index("ix_ports_project", "ports", ["project_id", "device_owner"])
    op.drop_index("ix_ports_project_id", "ports")
    op.add_column("port_groups", sa.Column("host", Name(), nullable=False, server_default=""))
    op.execute(
        sa.text("UPDATE port_groups SET host = (SELECT ports.host FROM ports WHERE ports.id = port_groups.port_id)")
    )
    op.create_index("ix_port_groups_host", "port_groups", ["group_id", "host"])
    op.drop_index("ix_port_groups_group_id", "port_groups")
