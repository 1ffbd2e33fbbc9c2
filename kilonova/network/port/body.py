"""What a port's POST and PUT may hold, and the rows that come from it."""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from kilonova.base.faults import invalid
from kilonova.network import addresses
from kilonova.network.addresses import wrong
from kilonova.network.allocation_store import Ask
from kilonova.network.settings import NetworkSettings

Name = Annotated[str, Meta(max_length=255)]
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}\Z")
_DNS = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*\.?\Z")
VNIC_TYPES = ("normal", "direct", "macvtap", "baremetal", "direct-physical", "virtio-forwarder", "smart-nic", "vdpa",
              "accelerator-direct", "accelerator-direct-physical", "remote-managed")  # fmt: skip
_RENAMED = {
    "host": "binding:host_id",
    "vnic_type": "binding:vnic_type",
    "profile": "binding:profile",
    "address_pairs": "allowed_address_pairs",
    "dhcp_options": "extra_dhcp_opts",
    "port_security": "port_security_enabled",
}


class FixedIp(msgspec.Struct, forbid_unknown_fields=True):
    """An address on a subnet, any address of a subnet, or an address wherever it belongs."""

    subnet_id: str | None = None
    ip_address: str | None = None


class Pair(msgspec.Struct, forbid_unknown_fields=True):
    """One more address that may be this port's source."""

    ip_address: str
    mac_address: str | None = None


class DhcpOption(msgspec.Struct, forbid_unknown_fields=True):
    """An option that DHCP gives this port only; a null value takes it away."""

    opt_name: Annotated[str, Meta(min_length=1, max_length=64)]
    opt_value: Name | None = None
    ip_version: int = 4


class PortChange(msgspec.Struct, forbid_unknown_fields=True, rename=_RENAMED):
    """PUT: what may change."""

    name: Name | UnsetType = UNSET
    description: Name | UnsetType = UNSET
    admin_state_up: bool | UnsetType = UNSET
    mac_address: str | UnsetType = UNSET
    fixed_ips: list[FixedIp] | UnsetType | None = UNSET
    device_id: Name | UnsetType = UNSET
    device_owner: Name | UnsetType = UNSET
    security_groups: list[str] | UnsetType | None = UNSET
    address_pairs: list[Pair] | UnsetType | None = UNSET
    dhcp_options: list[DhcpOption] | UnsetType | None = UNSET
    port_security: bool | UnsetType = UNSET
    dns_name: Name | UnsetType = UNSET
    host: Name | UnsetType | None = UNSET
    vnic_type: str | UnsetType = UNSET
    profile: dict[str, Any] | UnsetType | None = UNSET


class PortWanted(PortChange, forbid_unknown_fields=True, kw_only=True, rename=_RENAMED):
    """POST: a new port."""

    network_id: str
    project_id: Name = ""
    tenant_id: Name = ""
    device_owner: Name = ""
    tags: list[Name] = []


class CreateBody(msgspec.Struct, forbid_unknown_fields=True):
    """{"port": …} or {"ports": […]}."""

    port: PortWanted | UnsetType = UNSET
    ports: list[PortWanted] | UnsetType = UNSET


def asks(fixed_ips: list[FixedIp] | UnsetType | None) -> list[Ask] | None:
    """Addresses that the body asks for; None when it says nothing of them."""
    if fixed_ips is UNSET or fixed_ips is None:
        return None
    made = []
    for one in fixed_ips:
        if not one.subnet_id and not one.ip_address:
            raise invalid("IP allocation requires subnet_id or ip_address.", code="InvalidInput")
        made.append(Ask(one.subnet_id or "", str(addresses.address(one.ip_address)) if one.ip_address else ""))
    exact = [ask.address for ask in made if ask.address]
    if len(set(exact)) < len(exact):
        raise wrong(f"Duplicate IP address '{exact[0]}' in fixed_ips")
    return made


def values(settings: NetworkSettings, body: PortChange) -> dict[str, Any]:
    """Columns of the port that the body sets, checked."""
    plain = ("name", "description", "admin_state_up", "device_id", "device_owner", "port_security", "tags")
    made = {name: value for name in plain if (value := getattr(body, name, UNSET)) is not UNSET}
    if body.mac_address is not UNSET:
        made["mac"] = mac(body.mac_address)
    if body.host is not UNSET:
        made["host"] = body.host or ""
    if body.vnic_type is not UNSET:
        if body.vnic_type not in VNIC_TYPES:
            raise wrong(f"binding:vnic_type {body.vnic_type[:40]!r} is not in {list(VNIC_TYPES)}")
        made["vnic_type"] = body.vnic_type
    if body.profile is not UNSET:
        made["profile"] = body.profile or {}
    if body.dns_name is not UNSET:
        if body.dns_name and not _DNS.match(body.dns_name):
            raise wrong(f"{body.dns_name[:80]!r} is not a valid DNS name")
        made["dns_name"] = body.dns_name
    if body.address_pairs is not UNSET:
        made["address_pairs"] = _pairs(settings, body.address_pairs or [])
    if body.dhcp_options is not UNSET:
        options = [one for one in body.dhcp_options or [] if one.opt_value is not None]
        made["dhcp_options"] = [[one.opt_name, one.opt_value, one.ip_version] for one in options]
    return made


def mac(text: str) -> str:
    """The MAC in lower case with colons; group addresses are refused."""
    written = text.lower().replace("-", ":")
    if not _MAC.match(written) or written == "00:00:00:00:00:00" or int(written[:2], 16) & 1:
        raise wrong(f"'{text[:40]}' is not a valid MAC address")
    return written


def _pairs(settings: NetworkSettings, asked: list[Pair]) -> list[list[str]]:
    if len(asked) > settings.address_pairs_per_port:
        raise invalid(
            f"The number of allowed address pair exceeds the maximum {settings.address_pairs_per_port}.",
            code="AllowedAddressPairExhausted",
        )
    made = []
    for pair in asked:
        if "/" in pair.ip_address:
            written = str(addresses.network(pair.ip_address))
        else:
            written = str(addresses.address(pair.ip_address))
        made.append([written, mac(pair.mac_address) if pair.mac_address else ""])
    if len({tuple(pair) for pair in made}) < len(made):
        raise invalid("Request contains duplicate address pair.", code="DuplicateAddressPairInRequest")
    return made
