"""What stands beside ports in an answer, for those who ask (contract.BESIDE_HEADER) and may see it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from kilonova.http.request import Request
from kilonova.network.contract import BESIDE_HEADER, BESIDE_PORTS
from kilonova.network.core import NetworkService
from kilonova.network.network import resource as network_resource
from kilonova.network.network import store as networks
from kilonova.network.network.store import Network
from kilonova.network.port.store import Port
from kilonova.network.subnet import resource as subnet_resource
from kilonova.network.subnet import store as subnets
from kilonova.network.subnet.store import Subnet


async def of_ports(service: NetworkService, request: Request[Any], ports: list[Port]) -> dict[str, Any]:
    """{"networks": […], "subnets": […]} that the ports are on and have addresses of; {} when it was not asked for."""
    if request.headers.get(BESIDE_HEADER) != BESIDE_PORTS:
        return {}
    found, ranges = await service.db.read(_around, ports)
    seen = [one for one in found if request.allows("get_network", network_resource.target(one))]
    usable = [one for one in ranges if request.allows("get_subnet", subnet_resource.target(one))]
    return {
        "networks": [network_resource.view(request, one) for one in seen],
        "subnets": [subnet_resource.view(one) for one in usable],
    }


def _around(connection: Connection, ports: list[Port]) -> tuple[list[Network], list[Subnet]]:
    near = [networks.find_network(connection, id_) for id_ in sorted({port.network_id for port in ports})]
    ids = sorted({held.subnet_id for port in ports for held in port.fixed_ips})
    ranges = [subnets.find_subnet(connection, id_) for id_ in ids]
    return [one for one in near if one is not None], [one for one in ranges if one is not None]
