"""Names of everything a cloud makes on a machine. All begin with the cloud's 4 characters; Linux allows 15 in all."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from kilonova.base.faults import invalid

_PREFIX = re.compile(r"[a-z][a-z0-9]{3}\Z")


def prefix_of(state_directory: str, attempt: int = 0) -> str:
    """4 characters for a state directory: a letter, then letters and digits. Others with each attempt."""
    text = f"{state_directory}#{attempt}" if attempt else state_directory
    return f"k{hashlib.sha256(text.encode()).hexdigest()[:3]}"


def link_addresses(prefix: str) -> tuple[str, str]:
    """(root's, edge's) address of the wire between them: a /31 in 169.254.64.0/18 that the prefix gives."""
    number = int.from_bytes(hashlib.sha256(prefix.encode()).digest()[:2], "big") % 8192 * 2
    start = int(ip_network("169.254.64.0/18").network_address) + number
    return str(ip_address(start)), str(ip_address(start + 1))


def short(*parts: str) -> str:
    """10 hex digits that stand for an id, or for several: 40 bits, so that names fit into 15 characters."""
    text = "/".join(parts)
    plain = text.replace("-", "")
    if len(parts) == 1 and re.fullmatch(r"[0-9a-f]{32}", plain):
        return plain[:10]
    return hashlib.sha256(text.encode()).hexdigest()[:10]


@dataclass(frozen=True)
class Names:
    """The names of one host of one cloud."""

    prefix: str
    host: str

    def __post_init__(self) -> None:
        if not _PREFIX.match(self.prefix):
            raise invalid(f"Prefix {self.prefix!r} is not a letter and three letters or digits.")

    def tap(self, port_id: str) -> str:
        """A port's interface on the host: a guest's tap, or the outer end of a DHCP server's or router's leg."""
        return f"{self.prefix}t{short(port_id)}"

    def inner(self, port_id: str) -> str:
        """The inner end of a leg, in the namespace of the DHCP server or router."""
        return f"{self.prefix}i{short(port_id)}"

    def bridge(self, network_id: str) -> str:
        return f"{self.prefix}b{short(network_id)}"

    def vxlan(self, network_id: str) -> str:
        return f"{self.prefix}x{short(network_id)}"

    def dhcp_namespace(self, network_id: str) -> str:
        return f"{self.prefix}d{short(self.host, network_id)}"

    def router_namespace(self, router_id: str) -> str:
        return f"{self.prefix}r{short(self.host, router_id)}"
