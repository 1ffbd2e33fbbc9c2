"""What a new cloud has from the start: the way outside. Safe to run again and again."""

from __future__ import annotations

from typing import Any

import msgspec

from kilonova.network import addresses, bootstrap_store
from kilonova.network.core import NetworkService
from kilonova.network.network.store import Network
from kilonova.network.subnet.store import Subnet


class Outside(msgspec.Struct, frozen=True):
    """The external network: a CIDR that the cloud owns, its gateway, and the pool that floating IPs come from."""

    project_id: str
    cidr: str
    gateway: str
    pool: tuple[str, str]
    name: str = "public"
    physical_network: str = "public"


async def ensure_external_network(service: NetworkService, outside: Outside) -> str:
    """The id of the external network, made when no network is on its physical one yet."""
    now = service.draw.now()
    stamps: dict[str, Any] = {"project_id": outside.project_id, "created_at": now, "updated_at": now}
    network = Network(
        id=service.draw.id(), name=outside.name, external=True, is_default=True, segment_type="flat",
        physical_network=outside.physical_network, mtu=service.settings.mtu_of("flat"), **stamps,
    )  # fmt: skip
    cidr = addresses.network(outside.cidr)
    subnet = Subnet(
        id=service.draw.id(), name=f"{outside.name}-subnet", network_id=network.id, ip_version=cidr.version,
        cidr=str(cidr), gateway_ip=outside.gateway, enable_dhcp=False,
        pools=addresses.pools(cidr, [outside.pool], outside.gateway), **stamps,
    )  # fmt: skip
    return await service.change(bootstrap_store.ensure_external, network, subnet)
