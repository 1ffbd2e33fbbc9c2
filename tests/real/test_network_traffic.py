"""Traffic between guests through the real switch: what the rules allow passes, everything else does not."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator

import pytest

from kilonova.network.contract import AddressPair, Rule, Vtep
from kilonova.node.vswitch import namespace
from kilonova.node.vswitch.links import Links

from .wires import Guest, MachineRoom, group, needs_root, new_port, tcp

pytestmark = [pytest.mark.root, needs_root]

UDP, ICMPV6 = 17, 58


@pytest.fixture
async def room() -> AsyncIterator[MachineRoom]:
    room = MachineRoom()
    try:
        yield room
    finally:
        await room.close()


async def two_guests(room: MachineRoom, *rules: Rule, **more: object) -> tuple[Guest, Guest]:
    """Two guests on one bridge of one host; `rules` are those of both."""
    await room.add_hosts(1)
    room.groups = {"default": group("default", *rules)}
    ports = [new_port(n, **more) for n in (11, 12)]  # type: ignore[arg-type]
    guests = [await room.add_guest(0, port) for port in ports]
    up, gone = await room.apply(0, *ports, full=True)
    assert set(up) == {port.id for port in ports}
    assert not gone
    return guests[0], guests[1]


async def test_two_ports_of_one_bridge_are_filtered_in_both_directions(room: MachineRoom) -> None:
    a, b = await two_guests(room, tcp(22))
    for guest in (a, b):
        await guest.serve(22)
        await guest.serve(80)
    assert await a.reaches(b.ip, 22)
    assert await b.reaches(a.ip, 22)
    assert not await a.reaches(b.ip, 80)
    assert not await b.reaches(a.ip, 80)
    assert not a.pings(b.ip)
    # the sender's rules count too: without egress nothing leaves, though the receiver would take it
    room.groups = {"default": group("default", tcp(22)), "mute": group("mute")}
    room.groups["mute"] = type(room.groups["mute"])("mute", True, ())
    await room.apply(0, new_port(11, groups=("mute",)))
    assert not await a.reaches(b.ip, 22)


async def test_ipv6_rules(room: MachineRoom) -> None:
    a, b = await two_guests(room, tcp(22, ethertype="IPv6"), Rule("ingress", "IPv6", "icmp", 128))
    await b.serve(22, "::")
    assert await a.reaches("fd00:66::c", 22)
    assert not await a.reaches(b.ip, 22), "an IPv6 rule opens nothing for IPv4"
    assert a.pings("fd00:66::c")


async def test_remote_group_follows_its_members(room: MachineRoom) -> None:
    a, b = await two_guests(room)
    await b.serve(22)
    rule = Rule("ingress", "IPv4", "tcp", 22, 22, remote_group="web")
    room.groups = {"default": group("default", rule), "web": group("web", members=(a.ip, "10.99.0.0/16"))}
    await room.apply(0)
    assert await a.reaches(b.ip, 22)
    room.groups["web"] = group("web", members=("10.66.0.99",))
    await room.apply(0)
    assert not await a.reaches(b.ip, 22)


async def test_a_removed_rule_cuts_its_connections_and_no_others(room: MachineRoom) -> None:
    a, b = await two_guests(room, tcp(22), tcp(23))
    await b.serve(22)
    await b.serve(23)
    cut_reader, cut_writer = await a.threads.connect(b.ip, 22)
    kept_reader, kept_writer = await a.threads.connect(b.ip, 23)
    room.groups = {"default": group("default", tcp(23))}
    await room.apply(0)
    for writer in (cut_writer, kept_writer):
        writer.write(b"hello")
    assert await asyncio.wait_for(kept_reader.read(5), 2) == b"hello"
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(cut_reader.read(5), 1)
    cut_writer.close()
    kept_writer.close()


async def test_stateless_group_needs_a_rule_for_answers(room: MachineRoom) -> None:
    a, b = await two_guests(room, tcp(22))
    await b.serve(22)
    room.groups = {"default": group("default", tcp(22), stateful=False)}
    await room.apply(0, a.port, b.port)
    assert not await a.reaches(b.ip, 22), "the answer to a is not to port 22"
    back = Rule("ingress", "IPv4", "tcp", 1024, 65535)
    room.groups = {"default": group("default", tcp(22), back, stateful=False)}
    await room.apply(0)
    assert await a.reaches(b.ip, 22)


async def test_an_impossible_rule_harms_nobody_else(room: MachineRoom) -> None:
    a, b = await two_guests(room, tcp(22), Rule("ingress", "IPv4", "no-such-protocol"), tcp(70000))
    await b.serve(22)
    assert await a.reaches(b.ip, 22)


def ethernet(destination: str, source: str, kind: int, body: bytes) -> bytes:
    return bytes.fromhex(destination.replace(":", "") + source.replace(":", "")) + struct.pack("!H", kind) + body


def arp(mac: str, ip: str, asked: str) -> bytes:
    addresses = bytes.fromhex(mac.replace(":", "")) + socket.inet_aton(ip) + bytes(6) + socket.inet_aton(asked)
    return ethernet("ff:ff:ff:ff:ff:ff", mac, 0x0806, struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + addresses)


def udp(
    guest: Guest, to: Guest, ports: tuple[int, int], *, mac: str = "", ip: str = "", text: bytes = b"needle"
) -> bytes:
    head = struct.pack("!HHHH", *ports, 8 + len(text), 0) + text
    ends = socket.inet_aton(ip or guest.ip) + socket.inet_aton(to.ip)
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(head), 1, 0, 64, 17, 0) + ends
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    header = header[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + header[12:]
    return ethernet(to.port.mac, mac or guest.port.mac, 0x0800, header + head)


async def test_spoofed_frames_are_dropped(room: MachineRoom) -> None:
    a, b = await two_guests(room, Rule("ingress", "IPv4", "udp"))
    true_mac, false_mac = a.port.mac, "fa:16:3e:66:66:66"
    assert await b.hears(b"needle", a.send_frame(udp(a, b, (5000, 5001)))), "an honest datagram arrives"
    assert await b.hears(b"\x08\x06", a.send_frame(arp(true_mac, a.ip, b.ip))), "an honest ARP request arrives"
    for why, frame, needle in (
        ("MAC", udp(a, b, (5000, 5001), mac=false_mac), b"needle"),
        ("IP", udp(a, b, (5000, 5001), ip="10.66.0.77"), b"needle"),
        ("DHCP server", udp(a, b, (67, 68)), b"needle"),
        ("ARP address", arp(true_mac, "10.66.0.1", b.ip), socket.inet_aton("10.66.0.1")),
        ("ARP MAC", arp(false_mac, a.ip, b.ip), bytes.fromhex("fa163e666666")),
        ("VLAN tag", ethernet(b.port.mac, true_mac, 0x8100, b"\0\5\x08\0needle"), b"needle"),
    ):
        assert not await b.hears(needle, a.send_frame(frame), 0.3), f"a false {why} arrived"


def ipv6(guest: Guest, to: Guest, protocol: int, body: bytes, *, mac: str = "", ip: str = "") -> bytes:
    """A frame between the guests' IPv6 addresses; `body` begins with its protocol's header, checksum made here."""
    ends = packed6(ip or guest.port.fixed_ips[1].address) + packed6(to.port.fixed_ips[1].address)
    at = 2 if protocol == ICMPV6 else 6
    total = sum(struct.unpack(f"!{(len(body) + 1) // 2}H", body + bytes(len(body) % 2)))
    total += sum(struct.unpack("!16H", ends)) + len(body) + protocol
    total = (total & 0xFFFF) + (total >> 16)
    body = body[:at] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + body[at + 2 :]
    head = struct.pack("!IHBB", 6 << 28, len(body), protocol, 255) + ends
    return ethernet(to.port.mac, mac or guest.port.mac, 0x86DD, head + body)


def packed6(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6, address)


def udp6(ports: tuple[int, int], text: bytes = b"needle") -> bytes:
    return struct.pack("!HHHH", *ports, 8 + len(text), 0) + text


def neighbour(kind: int, target: str, mac: str) -> bytes:
    """A neighbour advertisement (136) or a router advertisement (134), RFC 4861."""
    link_address = bytes((2 if kind == 136 else 1, 1)) + bytes.fromhex(mac.replace(":", ""))
    if kind == 136:
        return struct.pack("!BBHI", kind, 0, 0, 0x60000000) + packed6(target) + link_address
    return struct.pack("!BBHBBHII", kind, 0, 0, 64, 0, 1800, 0, 0) + link_address


async def test_spoofed_ipv6_frames_are_dropped(room: MachineRoom) -> None:
    a, b = await two_guests(room, Rule("ingress", "IPv6", "udp"))
    mine, stranger, false_mac = a.port.fixed_ips[1].address, "fd00:66::77", "fa:16:3e:66:66:66"
    answer = neighbour(136, mine, a.port.mac)
    assert await b.hears(b"needle", a.send_frame(ipv6(a, b, UDP, udp6((5000, 5001))))), "an honest datagram arrives"
    assert await b.hears(packed6(mine) + b"\x02\x01", a.send_frame(ipv6(a, b, ICMPV6, answer))), "an honest answer too"
    for why, frame, needle in (
        ("MAC", ipv6(a, b, UDP, udp6((5000, 5001)), mac=false_mac), b"needle"),
        ("address", ipv6(a, b, UDP, udp6((5000, 5001)), ip=stranger), b"needle"),
        ("DHCPv6 server", ipv6(a, b, UDP, udp6((547, 546))), b"needle"),
        ("router", ipv6(a, b, ICMPV6, neighbour(134, "", a.port.mac)), b"\x86\x00"),
        ("neighbour", ipv6(a, b, ICMPV6, neighbour(136, stranger, a.port.mac)), packed6(stranger)),
        ("neighbour's source", ipv6(a, b, ICMPV6, answer, ip=stranger), packed6(stranger)),
    ):
        assert not await b.hears(needle, a.send_frame(frame), 0.3), f"a false {why} arrived"


async def test_address_pairs_and_port_security_off_let_more_through(room: MachineRoom) -> None:
    a, b = await two_guests(room, Rule("ingress", "IPv4", "udp"))
    pair = new_port(11, address_pairs=(AddressPair("10.66.0.200/30", a.port.mac),))
    await room.apply(0, pair)
    assert await b.hears(b"needle", a.send_frame(udp(a, b, (5000, 5001), ip="10.66.0.201")))
    assert not await b.hears(b"needle", a.send_frame(udp(a, b, (5000, 5001), ip="10.66.0.204")), 0.3)
    await room.apply(0, new_port(11, port_security=False, groups=()))
    assert await b.hears(b"needle", a.send_frame(udp(a, b, (5000, 5001), ip="10.66.0.204")))


async def test_hosts_are_joined_by_tunnels(room: MachineRoom) -> None:
    await room.add_hosts(2)
    room.groups = {"default": group("default", tcp(22))}
    ports = [new_port(11), new_port(12)]
    a, b = [await room.add_guest(n, port) for n, port in enumerate(ports)]
    for n, port in enumerate(ports):
        other = ports[1 - n]
        vtep = Vtep(port.network_id, port.segment, f"10.255.0.{2 - n}", (other.mac,))
        await room.apply(n, port, full=True, vteps=(vtep,))
    await b.serve(22)
    await b.serve(80)
    assert await a.reaches(b.ip, 22)
    assert not await a.reaches(b.ip, 80)
    await room.apply(0, a.port, vteps=())
    assert not await a.reaches(b.ip, 22), "a host that has no port of the network any more hears nothing"


async def test_a_new_process_adopts_what_flows(room: MachineRoom) -> None:
    a, b = await two_guests(room, tcp(22))
    await b.serve(22)
    reader, writer = await a.threads.connect(b.ip, 22)
    room.switches[0] = room.new_switch(0)
    up, _ = await room.apply(0, a.port, b.port, full=True)
    assert set(up) == {a.port.id, b.port.id}
    writer.write(b"alive")
    assert await asyncio.wait_for(reader.read(5), 2) == b"alive"
    assert not a.pings(b.ip)
    writer.close()
    # and what is wanted no more goes, though this process never made it
    room.switches[0] = room.new_switch(0)
    await room.apply(0, a.port, full=True)
    assert not await a.reaches(b.ip, 22)


async def test_purge_leaves_nothing(room: MachineRoom) -> None:
    await two_guests(room, tcp(22))
    threads, switch = room.hosts[0], room.switches[0]
    await switch.purge()

    def left() -> list[str]:
        with Links() as links:
            return [name for name in links.all(room.prefix) if name[4] in "tbx"]

    assert not await threads.run(left)
    prefix = room.prefix
    await room.close()
    assert namespace.names(prefix) == []
