"""What stands beside ports in an answer, for those who ask (contract.BESIDE_HEADER) and may see it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection

from kilonova.http.request import Request
from kilonova.network import rows_store
from kilonova.network.contract import BESIDE_HEADER, BESIDE_PORTS
from kilonova.network.network import resource as network_resource
from kilonova.network.network.store import Network
from kilonova.network.port.store import Port
from kilonova.network.subnet import resource as subnet_resource
from kilonova.network.subnet import store as subnets
from kilonova.network.subnet.store import Subnet

Around = tuple[list[Network], list[Subnet]]


def is_asked_for(request: Request[Any]) -> bool:
    """Whether the answer to POST /ports is to hold the ports' networks and subnets."""
    return request.headers.get(BESIDE_HEADER) == BESIDE_PORTS


def around(connection: Connection, near: Iterable[Network], ports: Sequence[Port]) -> Around:
    """The networks that ports are on, of which the rows are known, and the subnets that they have addresses of."""
    networks = {network.id: msgspec.structs.replace(network) for network in near}
    found = subnets.of_networks(connection, networks)
    ids = {held.subnet_id for port in ports for held in port.fixed_ips}
    used = [one for one in found if one.id in ids]
    rows_store.tagged(connection, [*networks.values(), *used])
    return list(networks.values()), used


def shown(request: Request[Any], known: Around) -> dict[str, Any]:
    """{"networks": […], "subnets": […]}, of both what the caller may see."""
    seen = [one for one in known[0] if request.allows("get_network", network_resource.target(one))]
    usable = [one for one in known[1] if request.allows("get_subnet", subnet_resource.target(one))]
    return {
        "networks": [network_resource.view(request, one) for one in seen],
        "subnets": [subnet_resource.view(one) for one in usable],
    }
