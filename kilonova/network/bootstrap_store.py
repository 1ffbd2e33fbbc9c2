"""The external network in the database, once."""

from __future__ import annotations

import sqlalchemy as sa

from kilonova.network import schema
from kilonova.network.network import store as networks
from kilonova.network.network.store import Network
from kilonova.network.subnet import store as subnets
from kilonova.network.subnet.store import Subnet
from kilonova.network.work import Work


def ensure_external(work: Work, network: Network, subnet: Subnet) -> str:
    """The id of the network on that physical one; network and subnet are inserted when there is none."""
    table = schema.networks
    found = sa.select(table.c.id).where(
        table.c.segment_type == "flat", table.c.physical_network == network.physical_network
    )
    there = work.connection.scalar(found)
    if there is None:
        networks.create_networks(work, [network])
    network_id = str(there or network.id)
    has_subnet = sa.select(schema.subnets.c.id).where(schema.subnets.c.network_id == network_id)
    if work.connection.scalar(has_subnet.limit(1)) is None:
        subnet.network_id = network_id
        subnets.create_subnets(work, [subnet])
    return network_id
