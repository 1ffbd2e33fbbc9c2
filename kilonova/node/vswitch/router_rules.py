"""A router's address translation as nftables text. Pure: a wanted router in, one transaction out."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network
from typing import Final

from kilonova.network.contract import WantedRouter

METADATA_PORT: Final = 9697


def table_name(prefix: str) -> str:
    """The name of the router's table."""
    return f"{prefix}rt"


def rules(table: str, router: WantedRouter, gateway_leg: str) -> str:
    """Commands that make the translation exactly so. Connections that flow keep theirs: it is decided once for each."""
    pairs = [(str(ip_address(f.floating_ip)), str(ip_address(f.fixed_ip))) for f in router.floating_ips]
    lines = [
        f"add table ip {table}",
        f"add map ip {table} to_fixed {{ type ipv4_addr : ipv4_addr ; }}",
        f"add map ip {table} to_floating {{ type ipv4_addr : ipv4_addr ; }}",
        f"add chain ip {table} prerouting {{ type nat hook prerouting priority dstnat ; }}",
        f"add chain ip {table} postrouting {{ type nat hook postrouting priority srcnat ; }}",
        f"add chain ip {table} input {{ type filter hook input priority 0 ; }}",
        f"flush table ip {table}",
        f"flush map ip {table} to_fixed",
        f"flush map ip {table} to_floating",
    ]
    if pairs:
        forth = ", ".join(f"{floating} : {fixed}" for floating, fixed in sorted(pairs))
        back = ", ".join(f"{fixed} : {floating}" for floating, fixed in sorted(pairs))
        lines.append(f"add element ip {table} to_fixed {{ {forth} }}")
        lines.append(f"add element ip {table} to_floating {{ {back} }}")
    lines += [f"add rule ip {table} {rule}" for rule in _chains(router, gateway_leg)]
    return "\n".join(lines)


def _chains(router: WantedRouter, leg: str) -> list[str]:
    metadata = f"ip daddr 169.254.169.254 tcp dport 80 redirect to :{METADATA_PORT}"
    outside = f'iifname != "{leg}" ' if leg else ""
    found = [f"prerouting {outside}{metadata}", "prerouting dnat to ip daddr map @to_fixed"]
    if leg:
        found += [
            f'input iifname "{leg}" tcp dport {METADATA_PORT} drop',
            f'postrouting oifname "{leg}" snat to ip saddr map @to_floating',
            # two guests behind this router, by a floating address: the answer must come back through here
            f'postrouting iifname != "{leg}" oifname != "{leg}" ct status dnat snat to ip saddr map @to_floating',
        ]
        source = _gateway_address(router)
        if source and router.gateway and router.gateway.snat:
            found.append(f'postrouting oifname "{leg}" snat to {source}')
            hairpin = f'postrouting iifname != "{leg}" oifname != "{leg}" ct status dnat snat to {source}'
            found.append(hairpin)
    return found


def _gateway_address(router: WantedRouter) -> str:
    addresses = [ip_interface(text) for text in router.gateway.addresses] if router.gateway else []
    return next((str(address.ip) for address in addresses if address.version == 4), "")


def routes(router: WantedRouter) -> list[tuple[str, str]]:
    """(destination, next hop) of the router's own table."""
    found = [(str(ip_network(destination, strict=False)), str(ip_address(hop))) for destination, hop in router.routes]
    taken = {destination for destination, _ in found}
    for hop in router.gateway.next_hops if router.gateway else ():
        default = "::/0" if ":" in hop else "0.0.0.0/0"
        if default not in taken:
            found.append((default, hop))
            taken.add(default)
    return found
