"""What an operator may set about networks."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class QuotaDefaults:
    """How many of each a project may have when nothing else was said; -1 is no limit."""

    network: int = 100
    subnet: int = 100
    port: int = 500
    router: int = 10
    floatingip: int = 50
    security_group: int = 10
    security_group_rule: int = 100


@dataclass(frozen=True)
class NetworkSettings:
    """Settings of the network service."""

    dns_domain: str = "openstacklocal"
    vni_first: int = 1
    vni_last: int = 65535
    vlan_first: int = 2
    vlan_last: int = 4094
    underlay_mtu: int = 1500
    agent_down_seconds: float = 60.0
    rebuild_after_seconds: float = 15.0  # a bound port that its host did not report by then is told again
    subnet_addresses_per_port: int = 5
    address_pairs_per_port: int = 10
    dns_nameservers_per_subnet: int = 5
    host_routes_per_subnet: int = 20
    routes_per_router: int = 30
    pagination_limit: int = 0  # 0: no limit unless asked
    quotas: QuotaDefaults = field(default_factory=QuotaDefaults)

    def mtu_of(self, segment_type: str) -> int:
        """The largest MTU that fits a network of that type: VXLAN takes 50 bytes over IPv4."""
        return self.underlay_mtu - 50 if segment_type == "vxlan" else self.underlay_mtu
