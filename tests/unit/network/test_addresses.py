"""Addresses: pools and gateways as arithmetic; allocation gives each address once, to the last one."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kilonova.base.faults import Fault
from kilonova.base.world import LiveWorld
from kilonova.db.inline import InlineDatabase
from kilonova.db.migrations import upgrade
from kilonova.network import addresses, allocation_store, schema
from kilonova.network.allocation_store import Owner
from kilonova.network.settings import NetworkSettings
from kilonova.network.work import Draw, Work


@given(st.integers(22, 32), st.integers(0, 1023), st.booleans())
def test_default_pools_are_all_but_the_gateway(length: int, place: int, with_gateway: bool) -> None:
    cidr = addresses.network(f"10.0.0.0/{length}")
    first, last = addresses.usable(cidr)
    gateway = addresses.at(cidr, first + place % (last - first + 1)) if with_gateway else ""
    spans = addresses.pool_positions(cidr, addresses.default_pools(cidr, gateway))
    listed = [place for low, high in spans for place in range(low, high + 1)]
    wanted = [p for p in range(first, last + 1) if addresses.at(cidr, p) != gateway]
    assert listed == wanted


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=4), st.integers(0, 70))
def test_searching_visits_every_position_once_from_where_it_begins(ends: list[tuple[int, int]], begin: int) -> None:
    spans, floor = [], 0
    for low, width in sorted(ends):
        low = max(low, floor)
        spans.append((low, low + width % 7))
        floor = low + width % 7 + 1
    visited = [place for low, high in addresses.search_order(spans, begin) for place in range(low, high + 1)]
    everything = [place for low, high in spans for place in range(low, high + 1)]
    assert sorted(visited) == everything
    assert visited == [p for p in everything if p >= begin] + [p for p in everything if p < begin]


@pytest.mark.parametrize(
    ("mac", "wanted"),
    [("fa:16:3e:12:34:56", "fd00::f816:3eff:fe12:3456"), ("00:16:3e:00:00:01", "fd00::216:3eff:fe00:1")],
)
def test_addresses_from_macs(mac: str, wanted: str) -> None:
    assert addresses.eui64(addresses.network("fd00::/64"), mac) == wanted


@pytest.mark.parametrize(
    ("pools", "code"),
    [
        ([("10.0.0.9", "10.0.0.5")], "InvalidAllocationPool"),
        ([("10.0.0.0", "10.0.0.5")], "OutOfBoundsAllocationPool"),
        ([("10.0.0.5", "10.0.1.5")], "OutOfBoundsAllocationPool"),
        ([("10.0.0.2", "10.0.0.9"), ("10.0.0.9", "10.0.0.20")], "OverlappingAllocationPools"),
        ([("10.0.0.1", "10.0.0.9")], "GatewayConflictWithAllocationPools"),
    ],
)
def test_pools_that_make_no_sense(pools: list[tuple[str, str]], code: str) -> None:
    with pytest.raises(Fault) as refused:
        addresses.pools(addresses.network("10.0.0.0/24"), pools, "10.0.0.1")
    assert refused.value.code == code


def _work(cidr: str, pools: list[list[str]]) -> Work:
    world = LiveWorld("test")
    db = InlineDatabase("network", world.clock)
    connection = db.engine.connect()
    upgrade(connection, "kilonova.network.migrations")
    draw = Draw(world)
    now = draw.now()
    std = {"project_id": "p", "name": "", "description": "", "revision": 0, "created_at": now, "updated_at": now}
    flags = {"admin_state_up": True, "shared": False, "external": False, "is_default": False, "port_security": True}
    segment = {"mtu": 1450, "segment_type": "vxlan", "physical_network": "", "segment_id": 1}
    connection.execute(schema.networks.insert().values(id="n", **std, **flags, **segment))
    modes = {"ipv6_ra_mode": "", "ipv6_address_mode": "", "dns_nameservers": [], "host_routes": []}
    net = addresses.network(cidr)
    connection.execute(
        schema.subnets.insert().values(
            id="s", network_id="n", ip_version=net.version, cidr=cidr, gateway_ip="", enable_dhcp=True, pools=pools,
            next_position=0, **std, **modes,
        )
    )  # fmt: skip
    return Work(connection, draw, NetworkSettings())


def _port(work: Work, number: int) -> Owner:
    now = work.draw.now()
    owner = Owner(f"port-{number}", "n", f"fa:16:3e:00:{number >> 8:02x}:{number & 255:02x}", "")
    row = {"project_id": "p", "name": "", "description": "", "revision": 0, "created_at": now, "updated_at": now}
    rest = {"admin_state_up": True, "status": "DOWN", "device_id": "", "device_owner": "", "host": "", "dns_name": ""}
    binding = {"vnic_type": "normal", "vif_type": "unbound", "profile": {}, "port_security": True, "address_pairs": []}
    values = {**row, **rest, **binding, "dhcp_options": []}
    work.connection.execute(schema.ports.insert().values(id=owner.port_id, network_id="n", mac=owner.mac, **values))
    return owner


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(["10.0.0.0/28", "fd00::/124"]))
def test_allocation_gives_every_address_once_and_finds_the_last(seed: int, cidr: str) -> None:
    """Random takes and returns against a set: never a double, never refused while one is free, always when none is."""
    chance = random.Random(seed)
    net = addresses.network(cidr)
    pools = [[addresses.at(net, 2), addresses.at(net, 5)], [addresses.at(net, 8), addresses.at(net, 10)]]
    everything = {addresses.at(net, place) for place in (2, 3, 4, 5, 8, 9, 10)}
    work = _work(cidr, pools)
    held: dict[str, str] = {}
    for number in range(40):
        if held and chance.random() < 0.4:
            port_id = chance.choice(sorted(held))
            allocation_store.give_back(work, port_id)
            del held[port_id]
            continue
        owner = _port(work, number)
        free = everything - set(held.values())
        if not free:
            with pytest.raises(Fault, match="No more IP addresses"):
                allocation_store.give(work, owner, None)
            continue
        [given_], _ = allocation_store.give(work, owner, None)
        assert given_.address in free
        held[owner.port_id] = given_.address
    work.connection.close()
