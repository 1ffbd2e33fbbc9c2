"""Networks in the database."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import Fault, conflict, no_capacity
from kilonova.db.database import lone
from kilonova.db.statements import read
from kilonova.network import rows_store, schema, told_store
from kilonova.network.door import absent
from kilonova.network.port import store as port_store
from kilonova.network.quota import store as quota
from kilonova.network.rows_store import Listing, Standard, Wanted
from kilonova.network.work import Work

_networks = schema.networks
_subnets = schema.subnets


class Network(Standard, kw_only=True):
    """A network as it is stored; `subnets` are its subnets' ids."""

    admin_state_up: bool = True
    shared: bool = False
    external: bool = False
    is_default: bool = False
    port_security: bool = True
    mtu: int = 0
    segment_type: str = "vxlan"
    physical_network: str = ""
    segment_id: int | None = None
    subnets: list[str] = msgspec.field(default_factory=list)


def no_network(id_: str) -> Fault:
    """There is no such network for this caller."""
    return absent("Network", id_)


def _visible(project_id: str) -> sa.ColumnElement[bool]:
    return sa.or_(_networks.c.project_id == project_id, _networks.c.shared.is_(True), _networks.c.external.is_(True))


def _active(values: Sequence[str]) -> sa.ColumnElement[bool]:
    return sa.true() if "ACTIVE" in [value.upper() for value in values] else sa.false()


def _with_subnet(values: Sequence[str]) -> sa.ColumnElement[bool]:
    return _networks.c.id.in_(sa.select(_subnets.c.network_id).where(_subnets.c.id.in_(values)))


LISTING = Listing(
    _networks,
    Network,
    {
        **{name: _networks.c[name] for name in ("id", "name", "project_id", "description", "admin_state_up", "shared")},
        **{name: _networks.c[name] for name in ("mtu", "is_default", "created_at", "updated_at")},
        "revision_number": _networks.c.revision,
        "router:external": _networks.c.external,
        "port_security_enabled": _networks.c.port_security,
        "provider:network_type": _networks.c.segment_type,
        "provider:physical_network": _networks.c.physical_network,
        "provider:segmentation_id": _networks.c.segment_id,
    },
    _visible,
    {"status": _active, "subnets": _with_subnet},
)


def list_networks(connection: Connection, wanted: Wanted) -> list[Network]:
    """Networks with their subnets' ids, in two queries and one for tags."""
    return _with_subnets(connection, rows_store.listed(connection, LISTING, wanted))


_OF_NETWORK = (_subnets.c.network_id, _subnets.c.id)
_OLDEST = (_subnets.c.created_at, _subnets.c.id)


def _with_subnets(connection: Connection, rows: list[Network]) -> list[Network]:
    if rows:
        by_id = {row.id: row for row in rows}
        where = {"network_id": list(by_id)}
        for network_id, subnet_id in read(connection, _OF_NETWORK, where, order=_OLDEST):
            by_id[network_id].subnets = [*by_id[network_id].subnets, subnet_id]
    return rows


def find_network(connection: Connection, id_: str) -> Network | None:
    """The network with its subnets and tags."""
    row = rows_store.find(connection, _networks, Network, id_)
    return None if row is None else rows_store.tagged(connection, _with_subnets(connection, [row]))[0]


def create_networks(work: Work, wanted: list[Network]) -> list[Network]:
    """Insert them all or none, each with a segment of its own."""
    wanted = [msgspec.structs.replace(network) for network in wanted]  # what is chosen here is not chosen for good
    for project_id in sorted({network.project_id for network in wanted}):
        quota.take(work, project_id, "network", sum(1 for network in wanted if network.project_id == project_id))
    for network in wanted:
        _give_segment(work, network)
        if network.is_default:
            _only_default(work, network.id)
        rows_store.insert(work, _networks, network)
    return wanted


def _give_segment(work: Work, network: Network) -> None:
    ranges = {
        "vxlan": (work.settings.vni_first, work.settings.vni_last),
        "vlan": (work.settings.vlan_first, work.settings.vlan_last),
    }
    if network.segment_type in ranges and network.segment_id is None:
        network.segment_id = _free_segment(work, network, *ranges[network.segment_type])
    if network.segment_type in ("flat", "vlan", "vxlan") and _segment_taken(work, network, network.segment_id):
        kind, where = network.segment_type, network.physical_network
        raise conflict(
            f"Unable to create the network. The {kind} segment {network.segment_id or ''} on physical network "
            f"{where or 'None'} is in use.",
            code={"flat": "FlatNetworkInUse", "vlan": "VlanIdInUse"}.get(kind, "TunnelIdInUse"),
        )


def _on_same(network: Network) -> sa.ColumnElement[bool]:
    return sa.and_(
        _networks.c.segment_type == network.segment_type, _networks.c.physical_network == network.physical_network
    )


def _segment_taken(work: Work, network: Network, number: int | None) -> bool:
    same = _networks.c.segment_id.is_(None) if number is None else _networks.c.segment_id == number
    found = sa.select(_networks.c.id).where(_on_same(network), same)
    return work.connection.execute(found.limit(1)).first() is not None


def _free_segment(work: Work, network: Network, first: int, last: int) -> int:
    """A random free number: neighbours say nothing of each other. When the range is nearly full, the first gap."""
    for _ in range(8):
        number = work.draw.between(first, last)
        if not _segment_taken(work, network, number):
            return number
    used = sa.select(_networks.c.segment_id).where(_on_same(network)).order_by(_networks.c.segment_id)
    candidate = first
    for number in work.connection.scalars(used):
        if number is None or number < candidate:
            continue
        if number > candidate:
            break
        candidate += 1
    if candidate > last:
        raise no_capacity("Unable to create the network. No tenant network is available for allocation.")
    return candidate


def _only_default(work: Work, network_id: str) -> None:
    others = sa.select(_networks.c.id).where(_networks.c.is_default.is_(True), _networks.c.id != network_id)
    if (other := work.connection.scalar(others)) is not None:
        raise conflict(f"A default external network already exists: {other}.", code="DefaultExternalNetworkExists")


def update_network(work: Work, id_: str, values: dict[str, object]) -> Network:
    """Write the values; hosts that have ports of it hear when they must rebuild them."""
    row = rows_store.need(work.connection, _networks, Network, id_, no_network, lock=True)
    if values.get("shared") is False and row.shared:
        _check_unshared(work, row)
    if values.get("external") is False and row.external:
        floating = sa.select(schema.floating_ips.c.id).where(schema.floating_ips.c.network_id == id_)
        routed = sa.select(schema.routers.c.id).where(schema.routers.c.gateway_network_id == id_)
        if work.connection.scalar(floating.limit(1)) or work.connection.scalar(routed.limit(1)):
            raise conflict(
                f"External network {id_} cannot be updated to be made non-external, since it has existing "
                "gateway ports.",
                code="ExternalNetworkInUse",
            )
    if values.get("is_default"):
        _only_default(work, id_)
    if values:
        rows_store.change(work, _networks, row, values)
    if {"mtu", "admin_state_up"} & set(values):
        told_store.tell_network(work, id_)
    return rows_store.tagged(work.connection, _with_subnets(work.connection, [row]))[0]


def _check_unshared(work: Work, row: Network) -> None:
    """A network whose ports belong to others cannot be taken back."""
    ports = schema.ports
    foreign = sa.select(ports.c.id).where(
        ports.c.network_id == row.id,
        ports.c.project_id != row.project_id,
        ports.c.device_owner.not_like("network:%"),
    )
    if work.connection.scalar(foreign.limit(1)) is not None:
        raise conflict(
            f"Unable to reconfigure sharing settings for network {row.id}. Multiple tenants are using it.",
            code="InvalidSharedSetting",
        )


def delete_network(work: Work, id_: str) -> None:
    """Delete it with its subnets and DHCP port; other ports keep it alive (409)."""
    row = rows_store.need(work.connection, _networks, Network, id_, no_network, lock=True)
    ports = schema.ports
    users = sa.select(ports.c.id).where(ports.c.network_id == id_, ports.c.device_owner != "network:dhcp")
    if work.connection.scalar(users.limit(1)) is not None:
        raise conflict(
            f"Unable to complete operation on network {id_}. There are one or more ports still in use on the network.",
            code="NetworkInUse",
        )
    port_store.delete_dhcp_ports(work, id_)
    ids = list(work.connection.scalars(sa.select(_subnets.c.id).where(_subnets.c.network_id == id_)))
    for subnet_id in ids:
        rows_store.remove(work, _subnets, subnet_id)
    rows_store.remove(work, _networks, row.id)


@lone
def usable_network(connection: Connection, id_: str) -> Network:
    """The network, without subnets and tags, for those who put something on it."""
    return rows_store.need(connection, _networks, Network, id_, no_network)
