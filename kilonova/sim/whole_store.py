"""The whole cloud's rows, read behind every service's back: what the checker compares."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.block_storage.attachment.store import attachments
from kilonova.block_storage.volume.store import volumes
from kilonova.network import schema as network
from kilonova.placement import schema as placement


class PortRow(msgspec.Struct):
    """A port of a server, a router or a DHCP server."""

    id: str
    device_id: str
    device_owner: str
    host: str
    vif_type: str
    status: str


class VolumeRow(msgspec.Struct):
    """A volume."""

    id: str
    status: str
    host: str
    operation_id: str
    size_gib: int


class AttachmentRow(msgspec.Struct):
    """Who has a volume."""

    id: str
    volume_id: str
    instance_id: str
    status: str
    host: str


def ports(connection: Connection) -> list[PortRow]:
    """Every port."""
    p = network.ports.c
    found = sa.select(p.id, p.device_id, p.device_owner, p.host, p.vif_type, p.status)
    return [PortRow(*row) for row in connection.execute(found)]


def addresses(connection: Connection) -> list[tuple[str, str, str]]:
    """(network id, address, port id) of every address in use."""
    a = network.addresses.c
    return [tuple(row) for row in connection.execute(sa.select(a.network_id, a.address, a.port_id))]


def floating_ips(connection: Connection) -> list[tuple[str, str, str]]:
    """(id, its own port, the port that it points to or "") of every floating IP."""
    f = network.floating_ips.c
    found = sa.select(f.id, f.own_port_id, sa.func.coalesce(f.port_id, ""))
    return [tuple(row) for row in connection.execute(found)]


def all_volumes(connection: Connection) -> list[VolumeRow]:
    """Every volume."""
    v = volumes.c
    return [
        VolumeRow(*row) for row in connection.execute(sa.select(v.id, v.status, v.host, v.operation_id, v.size_gib))
    ]


def all_attachments(connection: Connection) -> list[AttachmentRow]:
    """Every attachment."""
    a = attachments.c
    found = sa.select(a.id, a.volume_id, a.instance_id, a.status, a.host)
    return [AttachmentRow(*row) for row in connection.execute(found)]


def allocations(connection: Connection) -> dict[str, dict[str, dict[str, int]]]:
    """consumer → provider's name → resource class → amount."""
    a, p = placement.allocation.c, placement.provider.c
    joined = placement.allocation.join(placement.provider, a.provider_id == p.id)
    held: dict[str, dict[str, dict[str, int]]] = {}
    for consumer, name, resource, used in connection.execute(
        sa.select(a.consumer_id, p.name, a.resource_class, a.used).select_from(joined)
    ):
        held.setdefault(consumer, {}).setdefault(name, {})[resource] = used
    return held


def used(connection: Connection) -> dict[tuple[str, str], int]:
    """(provider's name, resource class) → how much placement believes is used."""
    i, p = placement.inventory.c, placement.provider.c
    joined = placement.inventory.join(placement.provider, i.provider_id == p.id)
    return {
        (name, resource): amount
        for name, resource, amount in connection.execute(
            sa.select(p.name, i.resource_class, i.used).select_from(joined)
        )
    }
