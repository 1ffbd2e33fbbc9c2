"""The machines of a cluster, as network namespaces: management and tunnel wires, an external network, and a street.

    root namespace     management bridge 172.23.N.0/24       tunnel bridge 172.24.N.0/24     external 198.51.100.0/24
    .1 ────────────────┬─ controller .10                                                     ┌─ street .1 (outside)
                       ├─ net1 .20 ──────────────────────────┬─ .20 ─────────────────────────┤  net1: no address
                       └─ node1 .31, node2 .32, … ───────────┴─ .31, .32, …

Everything is in namespaces whose names begin with the landscape's prefix, but for one interface in root.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from kilonova.cli.claims import routes_here
from kilonova.node.vswitch import namespace
from kilonova.node.vswitch.hosts import UNDERLAY_MTU
from kilonova.node.vswitch.links import Links

EXTERNAL = "198.51.100"  # TEST-NET-2


@dataclass(frozen=True)
class Node:
    """A machine: its namespace and its addresses."""

    name: str
    namespace: str
    host_ip: str
    tunnel_ip: str = ""
    external: str = ""  # its interface on the external network

    def inside(self, *command: str) -> list[str]:
        """`command`, on this machine."""
        return ["nsenter", f"--net=/run/netns/{self.namespace}", *command]


class Landscape:
    """`controller`, `network`, `computes`; `root_ip` is where the test's own namespace is reached."""

    def __init__(self, hosts: int) -> None:
        self.prefix = f"c{random.randrange(1 << 12):03x}"
        taken = [route.split("/", maxsplit=1)[0] for route in routes_here()]
        number = random.choice([n for n in range(1, 250) if f"172.23.{n}.0" not in taken])
        self._management, self._tunnels = f"172.23.{number}", f"172.24.{number}"
        self.root_ip = f"{self._management}.1"
        self.controller = self._node("controller", 10)
        self.network = self._node("net1", 20, tunnel=True, external="ext0")
        self.computes: Sequence[Node] = [self._node(f"node{n}", 30 + n, tunnel=True) for n in range(1, hosts + 1)]
        self.street = Node("street", f"{self.prefix}-street", "")

    def _node(self, name: str, last: int, *, tunnel: bool = False, external: str = "") -> Node:
        tunnel_ip = f"{self._tunnels}.{last}" if tunnel else ""
        return Node(name, f"{self.prefix}-{name}", f"{self._management}.{last}", tunnel_ip, external)

    @property
    def nodes(self) -> list[Node]:
        return [self.controller, self.network, *self.computes]

    def build(self) -> None:
        """Wire it up."""
        middle = f"{self.prefix}-wires"
        namespace.create(middle)
        with namespace.visiting(middle), Links() as links:
            for bridge in ("mgmt", "tun", "ext"):
                links.bridge(bridge, UNDERLAY_MTU)
        root_end = f"{self.prefix}w"
        with Links() as links:
            links.veth(root_end, f"{root_end}m")
            links.move(f"{root_end}m", middle)
            links.shape(root_end)
            links.addresses(root_end, [f"{self.root_ip}/24"])
        with namespace.visiting(middle), Links() as links:
            links.shape(f"{root_end}m", master="mgmt")
        for node in self.nodes:
            namespace.create(node.namespace)
            self._join(middle, node, "mgmt", node.host_ip)
            if node.tunnel_ip:
                self._join(middle, node, "tun", node.tunnel_ip)
            if node.external:
                self._join(middle, node, "ext", "")
        namespace.create(self.street.namespace)
        self._join(middle, self.street, "ext", f"{EXTERNAL}.1")

    def _join(self, middle: str, node: Node, wire: str, address: str) -> None:
        """An interface named after the wire (`mgmt0`), in the node's namespace."""
        outer, wire_end = f"{wire}-{node.name}"[:15], f"{wire}0"
        with namespace.visiting(middle), Links() as links:
            links.veth(outer, wire_end)
            links.move(wire_end, node.namespace)
            links.shape(outer, mtu=UNDERLAY_MTU, master=wire)
        with namespace.visiting(node.namespace), Links() as links:
            links.shape(wire_end, mtu=UNDERLAY_MTU)
            if address:
                links.addresses(wire_end, [f"{address}/24"])

    def remove(self) -> None:
        """Nothing of it is left."""
        for name in namespace.names(f"{self.prefix}-"):
            namespace.delete(name)
        with Links() as links:
            for name in links.all(self.prefix):
                links.delete(name)

    def left_behind(self) -> list[str]:
        """What is, after all."""
        with Links() as links:
            return [*namespace.names(f"{self.prefix}-"), *links.all(self.prefix)]
