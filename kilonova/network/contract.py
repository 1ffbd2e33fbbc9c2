"""Network's contract: what hosts are asked to build, what they report, and what other services may ask over REST.

The network API writes what is wanted; agents fetch it (`Plugin`), make their host so, and report. Agents are told
that something changed by a cast with what it is now, or with ids; they fetch those ids. At start, and every
`resync_seconds`, they fetch all.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol

import msgspec

from kilonova.bus import rpc

EXCHANGE = "neutron"
PLUGIN_TOPIC = "q-plugin"
L2_TOPIC = "l2_agent"
L3_TOPIC = "l3_agent"
DHCP_TOPIC = "dhcp_agent"


class Segment(msgspec.Struct, frozen=True):
    """How a network's frames travel: (vxlan, VNI), (vlan, tag, physical network), (flat, physical network)."""

    type: Literal["vxlan", "vlan", "flat", "local"]
    id: int = 0
    physical_network: str = ""


class FixedIp(msgspec.Struct, frozen=True):
    """An address of a port, with the subnet's facts that a host needs."""

    address: str
    subnet_id: str
    cidr: str
    gateway: str = ""


class AddressPair(msgspec.Struct, frozen=True):
    """One more source address that a port may use (allowed_address_pairs)."""

    ip: str  # address or CIDR
    mac: str


class WantedPort(msgspec.Struct, frozen=True):
    """A port bound to a host, as its L2 agent must build it."""

    id: str
    network_id: str
    mac: str
    segment: Segment
    mtu: int
    fixed_ips: tuple[FixedIp, ...]
    device_id: str  # server, router or network id
    device_owner: str  # compute:nova | network:dhcp | network:router_interface | network:router_gateway …
    admin_state_up: bool = True
    port_security: bool = True
    security_groups: tuple[str, ...] = ()
    address_pairs: tuple[AddressPair, ...] = ()
    revision: int = 0


class Rule(msgspec.Struct, frozen=True):
    """A security group rule. Protocol "" is any; ports are inclusive (ICMP: type and code); None is any."""

    direction: Literal["ingress", "egress"]
    ethertype: Literal["IPv4", "IPv6"]
    protocol: str = ""
    port_min: int | None = None
    port_max: int | None = None
    remote_cidr: str = ""
    remote_group: str = ""


class WantedGroup(msgspec.Struct, frozen=True):
    """A security group: its rules, and the addresses of all its members anywhere (for rules that name it).

    Network tells the addresses by `WantedL2.members`, of which agents make them.
    """

    id: str
    stateful: bool
    rules: tuple[Rule, ...]
    member_ips: tuple[str, ...] = ()


class Member(msgspec.Struct, frozen=True):
    """A port as those know it who filter by its security groups."""

    port_id: str
    groups: tuple[str, ...]
    ips: tuple[str, ...]
    revision: int = 0  # the port's: what bears a lower one was true before


class PortNews(msgspec.Struct, frozen=True):
    """What was written of a port, for hosts that had it, have it, or filter by its groups."""

    member: Member
    host: str = ""  # where it is; "": nowhere
    port: WantedPort | None = None  # to be built on this host, which has its network and its groups; None: fetch it


class Vtep(msgspec.Struct, frozen=True):
    """Another host that has ports of a VXLAN network: its tunnel address and the MACs behind it."""

    network_id: str
    segment: Segment
    tunnel_ip: str
    macs: tuple[str, ...]


class WantedL2(msgspec.Struct, frozen=True):
    """All or part of what a host's L2 agent must build. `full`: what is not listed must go."""

    ports: tuple[WantedPort, ...] = ()
    gone_ports: tuple[str, ...] = ()  # asked for by id and no longer bound here
    groups: tuple[WantedGroup, ...] = ()
    vteps: tuple[Vtep, ...] = ()  # the whole truth for every network that appears in ports or vteps
    members: tuple[Member, ...] = ()  # all of the groups that are named by rules of the groups
    full: bool = False


class WantedSubnet(msgspec.Struct, frozen=True):
    """A subnet that DHCP serves. IPv6 by ra_mode/address_mode: slaac, dhcpv6-stateful, dhcpv6-stateless or ""."""

    id: str
    cidr: str
    gateway: str
    dhcp: bool
    dns: tuple[str, ...] = ()
    host_routes: tuple[tuple[str, str], ...] = ()  # (destination CIDR, next hop)
    ra_mode: str = ""
    address_mode: str = ""


class DhcpHost(msgspec.Struct, frozen=True):
    """A fixed lease; without addresses there is none. Options are dnsmasq option names or numbers → value."""

    port_id: str
    mac: str
    ips: tuple[str, ...]
    hostname: str
    options: tuple[tuple[str, str], ...] = ()
    revision: int = 0  # the port's: what bears a lower one was true before


class Lease(msgspec.Struct, frozen=True):
    """A fixed lease, with the network whose DHCP server gives it."""

    network_id: str
    host: DhcpHost


class WantedDhcp(msgspec.Struct, frozen=True):
    """A DHCP server for one network. Metadata is reached at 169.254.169.254 in it when no router serves it."""

    network_id: str
    port: WantedPort  # the DHCP port, device_owner network:dhcp
    subnets: tuple[WantedSubnet, ...]
    hosts: tuple[DhcpHost, ...]
    domain: str = "openstacklocal"
    revision: int = 0


class RouterInterface(msgspec.Struct, frozen=True):
    """A router's leg in a tenant network. `addresses` are address/prefix-length."""

    port: WantedPort
    addresses: tuple[str, ...]
    advertise: bool = False  # be the IPv6 default router: a subnet of it has an ipv6_ra_mode


class RouterGateway(msgspec.Struct, frozen=True):
    """A router's leg in the external network."""

    port: WantedPort
    addresses: tuple[str, ...]
    next_hops: tuple[str, ...]  # of the external subnets
    snat: bool = True


class FloatingIp(msgspec.Struct, frozen=True):
    """A floating address and the fixed address it stands for."""

    id: str
    floating_ip: str
    fixed_ip: str


class WantedRouter(msgspec.Struct, frozen=True):
    """A router that a host's L3 agent must build."""

    id: str
    admin_state_up: bool
    interfaces: tuple[RouterInterface, ...]
    gateway: RouterGateway | None = None
    floating_ips: tuple[FloatingIp, ...] = ()
    routes: tuple[tuple[str, str], ...] = ()  # (destination CIDR, next hop)
    revision: int = 0


class AgentReport(msgspec.Struct, frozen=True):
    """An agent's heartbeat."""

    agent_type: str  # "L2 agent" | "L3 agent" | "DHCP agent" | "Metadata agent"
    binary: str
    host: str
    topic: str
    tunnel_ip: str = ""
    physical_networks: tuple[str, ...] = ()
    configurations: dict[str, str] = {}


class Plugin(Protocol):
    """Served by network-worker on topic `q-plugin`; asked by agents. A host gets only what concerns it."""

    @rpc.call(60)
    async def wanted_l2(self, host: str, port_ids: list[str] | None, network_ids: list[str] | None) -> WantedL2:
        """What `host` must build: everything when both lists are None, else those ports and networks' VTEPs."""
        ...

    @rpc.call(60)
    async def wanted_dhcp(self, host: str, network_ids: list[str] | None) -> list[WantedDhcp]:
        """DHCP servers for `host`; a network asked for and not answered must go."""
        ...

    @rpc.call(60)
    async def wanted_routers(self, host: str, router_ids: list[str] | None) -> list[WantedRouter]:
        """Routers for `host`; a router asked for and not answered must go."""
        ...

    @rpc.call()
    async def ports_up(self, host: str, up: list[str], down: list[str]) -> None:
        """The host built or lost these ports; network tells compute (`network-vif-plugged`)."""
        ...

    @rpc.call()
    async def find_device(self, network_id: str, router_id: str, ip: str) -> tuple[str, str] | None:
        """(server id, project id) of the port with `ip` in the network, or behind the router; for metadata."""
        ...

    @rpc.call()
    async def report_state(self, report: AgentReport) -> None:
        """Every 10 s; an agent is down after 60 s of silence."""
        ...


class L2Agent(Protocol):
    """Served by a host's L2 agent on `l2_agent.HOST`."""

    @rpc.cast
    async def l2_changed(self, port_ids: list[str], network_ids: list[str], news: list[PortNews]) -> None:
        """These ports, or the groups and VTEPs of these networks, changed: fetch and build. Of others only this did."""
        ...


class L3Agent(Protocol):
    """Served on `l3_agent.HOST`."""

    @rpc.cast
    async def routers_changed(self, router_ids: list[str]) -> None: ...


class DhcpAgent(Protocol):
    """Served on `dhcp_agent.HOST`."""

    @rpc.cast
    async def dhcp_changed(self, network_ids: list[str], leases: list[Lease]) -> None:
        """The DHCP servers of these networks changed: fetch and build. Of others only these leases did: build."""
        ...


# ── what a host's machinery must be able to do; adapters: node/vswitch/linux.py, node/vswitch/fake.py


class VirtualSwitch(Protocol):
    """Layer 2 of one host: bridges, tunnels, taps, security groups. Every verb may be repeated."""

    def tap_name(self, port_id: str) -> str:
        """The interface name a guest's NIC must use for this port (≤ 15 characters)."""
        ...

    async def apply(self, wanted: WantedL2) -> tuple[list[str], list[str]]:
        """Make the host so. Returns (ports now up, ports now gone)."""
        ...

    async def purge(self) -> None:
        """Remove everything that this cloud made on this host."""
        ...


class DhcpServers(Protocol):
    """DHCP of one host."""

    async def apply(self, wanted: list[WantedDhcp], gone: list[str], *, full: bool) -> None:
        """Make the servers so; `full`: what is not wanted must go."""
        ...

    async def purge(self) -> None: ...


class Routers(Protocol):
    """Routers of one host."""

    async def apply(self, wanted: list[WantedRouter], gone: list[str], *, full: bool) -> None:
        """Make the routers so without breaking connections that flow; `full`: what is not wanted must go."""
        ...

    async def purge(self) -> None: ...


# ── what compute's agent asks over REST

# A request of ours may name what its answer is to hold beside the resource: one request where the published API takes
# several. A network service that is not ours does not know the header, and is asked for the rest.
BESIDE_HEADER = "x-kilonova-beside"
BESIDE_PORTS = "networks,subnets"  # of POST /ports: those of the port, as their own lists show them
BESIDE_NETWORK = "quota"  # of GET /networks/{id}: how many ports the caller's project may have, and (if not any) has
BESIDE_DEVICE = "device"  # of DELETE /ports/{id}: the same header of the answer says ALONE when its device has no other
ALONE = "alone"


class PortBinding(msgspec.Struct):
    """A port as a server uses it."""

    id: str
    network_id: str
    network_name: str
    mac: str
    fixed_ips: list[FixedIp]
    mtu: int
    status: str
    tag: str = ""
    made_by_us: bool = False  # created for the server, so deleted with it
    dns: list[str] = []
    host_routes: list[tuple[str, str]] = []
    floating: list[tuple[str, str]] = []  # (floating address, the fixed address it stands for)
    security_groups: list[str] | None = None  # names; None: not known
    revision: int = 0  # grows with every change of the port and of what stands for it


class PortRequest(msgspec.Struct, frozen=True):
    """What a user asked for on one NIC: an existing port, or a network with an optional address."""

    port_id: str = ""
    network_id: str = ""
    fixed_ip: str = ""
    tag: str = ""


class ServerNics(msgspec.Struct, frozen=True):
    """Whose NICs are bound, where."""

    server_id: str
    hostname: str
    project_id: str
    availability_zone: str
    host: str
    requests: tuple[PortRequest, ...]
    security_groups: tuple[str, ...] = ()  # names or ids; for ports made here


class Networks(Protocol):
    """Network over REST with a caller's token. Implemented by network/client.py."""

    async def check(self, token: str, project_id: str, requests: list[PortRequest]) -> list[PortRequest]:
        """At the API: every network and port exists, may be used and has room; no request: the project's only network.

        Faults: NOT_FOUND, CONFLICT (several networks and none named; port in use), INVALID (address not in subnet).
        """
        ...

    async def check_security_groups(self, token: str, project_id: str, groups: list[str]) -> None:
        """Each group (name or id) exists for the project; an ambiguous name is CONFLICT."""
        ...

    async def bind(self, token: str, key: str, nics: ServerNics) -> list[PortBinding]:
        """Ports for all requests, in order, made or adopted, bound to the host. `key` makes repeats harmless."""
        ...

    async def unbind(self, token: str, server_id: str, ports: list[PortBinding]) -> None:
        """Ports made for the server are deleted, adopted ones unbound; found by the server's id too; gone is fine."""
        ...

    async def release(self, token: str, server_id: str, port: PortBinding) -> None:
        """One port: deleted when it was made for the server, else unbound; gone is fine."""
        ...

    async def security_groups_of(self, token: str, server_id: str) -> list[dict[str, Any]]:
        """The security groups of the server's ports, each with its rules, as the network API shows them."""
        ...

    async def add_security_group(self, token: str, project_id: str, server_id: str, group: str) -> None:
        """Every port of the server is in the group (name or id) too."""
        ...

    async def remove_security_group(self, token: str, project_id: str, server_id: str, group: str) -> None:
        """No port of the server is in the group any more; NOT_FOUND when none was."""
        ...

    async def add_fixed_ip(self, token: str, server_id: str, network_id: str) -> None:
        """The server's port on the network has one more address."""
        ...

    async def remove_fixed_ip(self, token: str, server_id: str, address: str) -> None:
        """No port of the server has the address any more; INVALID when none had."""
        ...

    async def port_states(self, token: str, server_id: str) -> dict[str, str]:
        """Port id → ACTIVE or DOWN, of the server's ports."""
        ...

    async def ports_of(self, token: str, server_id: str) -> list[PortBinding]:
        """The server's ports with their status now."""
        ...


class ServerEvents(Protocol):
    """Compute's `os-server-external-events`, as network calls it. Implemented by compute/client.py."""

    async def port_events(self, events: list[tuple[str, str, str]]) -> None:
        """(event, server id, port id): `network-vif-plugged`, `-unplugged`, `-deleted`, or `network-changed`."""
        ...
