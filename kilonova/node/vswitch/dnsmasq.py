"""What dnsmasq is told for a network: arguments and files, as text. Pure; values that could break out are left out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Final

from kilonova.network.contract import DhcpHost, WantedDhcp, WantedSubnet
from kilonova.node.vswitch.names import short

METADATA_IP: Final = "169.254.169.254"
LEASE_SECONDS: Final = 86400
_LABEL: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\Z")
_OPTION: Final = re.compile(r"[a-z0-9-]+\Z")
_MAC: Final = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}\Z")


def served(wanted: WantedDhcp) -> list[WantedSubnet]:
    """The subnets that get a server."""
    return [subnet for subnet in wanted.subnets if subnet.dhcp]


def arguments(wanted: WantedDhcp, interface: str, directory: Path) -> list[str]:
    """dnsmasq's command line; a change of it needs a restart, a change of the files only a SIGHUP."""
    line = [
        "dnsmasq",
        "--conf-file=/dev/null",
        "--no-hosts",
        "--no-resolv",
        "--leasefile-ro",  # all leases are fixed: there is nothing to remember
        "--dhcp-authoritative",
        "--bind-dynamic",
        f"--interface={interface}",
        "--except-interface=lo",
        f"--pid-file={directory / 'pid'}",
        f"--dhcp-hostsfile={directory / 'hosts'}",
        f"--dhcp-optsfile={directory / 'opts'}",
        f"--addn-hosts={directory / 'names'}",
        f"--log-facility={directory / 'log'}",
        "--dhcp-lease-max=65535",
        "--user=nobody",
        "--group=nogroup",
    ]
    if all(_LABEL.match(label) for label in wanted.domain.split(".")):
        line.append(f"--domain={wanted.domain}")
    advertised = False
    for subnet in served(wanted):
        net, tag = ip_network(subnet.cidr), f"set:s{short(subnet.id)}"
        if net.version == 4:
            line.append(f"--dhcp-range={tag},{net.network_address},static,{net.netmask},{LEASE_SECONDS}s")
            continue
        advertised = advertised or bool(subnet.ra_mode)
        mode = {"slaac": "ra-only", "dhcpv6-stateless": "ra-stateless"}.get(subnet.address_mode, "static")
        line.append(f"--dhcp-range={tag},{net.network_address},{mode},{net.prefixlen},{LEASE_SECONDS}s")
    if advertised:  # lifetime 0: prefixes and flags come from here, the default route from a router
        line += ["--enable-ra", f"--ra-param={interface},mtu:{wanted.port.mtu},60,0"]
    return line


def survives_reload(hosts_text: str) -> bool:
    """Whether SIGHUP is safe: dnsmasq 2.90 crashes when it drops a tagged host that has a lease."""
    return ",set:" not in hosts_text


def hosts(wanted: WantedDhcp) -> str:
    """The fixed leases, one port per line."""
    lines = []
    for host in wanted.hosts:
        if not _MAC.match(host.mac.lower()):
            continue
        parts = [host.mac.lower()] + ([f"set:p{short(host.port_id)}"] if host.options else [])
        parts += [f"[{ip}]" if ":" in ip else ip for ip in _leased(wanted, host)]
        if _LABEL.match(host.hostname):
            parts.append(host.hostname)
        lines.append(",".join(parts))
    return "".join(f"{line}\n" for line in lines)


def _leased(wanted: WantedDhcp, host: DhcpHost) -> list[str]:
    nets = [ip_network(subnet.cidr) for subnet in served(wanted) if subnet.address_mode != "slaac"]
    return [str(ip) for ip in map(ip_address, host.ips) if any(ip in net for net in nets)]


def addresses(wanted: WantedDhcp) -> str:
    """Names of the network's hosts, for DNS."""
    lines = []
    for host in wanted.hosts:
        if _LABEL.match(host.hostname):
            full = f"{host.hostname}.{wanted.domain}"
            lines += [f"{ip_address(ip)} {full} {host.hostname}\n" for ip in host.ips]
    return "".join(lines)


def options(wanted: WantedDhcp) -> str:
    """DHCP options: MTU, DNS, routes (with the metadata address through us), and each port's own."""
    lines = [f"option:mtu,{wanted.port.mtu}"]
    own = {fixed.subnet_id: fixed.address for fixed in wanted.port.fixed_ips}
    for subnet in served(wanted):
        tag = f"tag:s{short(subnet.id)}"
        dns = [str(ip_address(ip)) for ip in subnet.dns] or [own[subnet.id]] if subnet.id in own else list(subnet.dns)
        if ip_network(subnet.cidr).version == 6:
            if dns:
                lines.append(f"{tag},option6:dns-server,{','.join(f'[{ip}]' for ip in dns)}")
            continue
        if dns:
            lines.append(f"{tag},option:dns-server,{','.join(dns)}")
        lines.append(f"{tag},option:router{',' + subnet.gateway if subnet.gateway else ''}")
        if routes := _routes(subnet, own.get(subnet.id, "")):
            text = ",".join(part for route in routes for part in route)
            lines += [f"{tag},option:classless-static-route,{text}", f"{tag},249,{text}"]
    for host in wanted.hosts:
        for name, value in host.options:
            if _OPTION.match(name) and "\n" not in value:
                option = name if name.isdigit() else f"option:{name}"
                lines.append(f"tag:p{short(host.port_id)},{option},{value}")
    return "".join(f"{line}\n" for line in lines)


def _routes(subnet: WantedSubnet, our_ip: str) -> Sequence[tuple[str, str]]:
    """Option 121 replaces option 3 for those who read it (RFC 3442), so the default route is in it too."""
    routes = [(str(ip_network(destination, strict=False)), hop) for destination, hop in subnet.host_routes]
    if our_ip and all(destination != f"{METADATA_IP}/32" for destination, _ in routes):
        routes.append((f"{METADATA_IP}/32", our_ip))
    if routes and subnet.gateway and all(destination != "0.0.0.0/0" for destination, _ in routes):
        routes.append(("0.0.0.0/0", subnet.gateway))
    return routes
