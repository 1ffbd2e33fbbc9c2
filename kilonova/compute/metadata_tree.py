"""What a server learns of itself: the files of the config drive and of the metadata service, as pure functions.

Paths and keys are those of OpenStack's metadata (`openstack/VERSION/meta_data.json`, …) and of EC2's, so that
cloud-init and its kin read them unchanged. Both doors show the same tree, but only the config drive has the
administrator's password.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
from typing import Any, Final

from kilonova.compute.contract import ServerForHost
from kilonova.network.contract import FixedIp, PortBinding

OPENSTACK_VERSIONS: Final = (
    "2012-08-10", "2013-04-04", "2013-10-17", "2015-10-15", "2016-06-30",
    "2016-10-06", "2017-02-22", "2018-08-27", "2020-10-14", "latest",
)  # fmt: skip
EC2_VERSIONS: Final = (
    "1.0", "2007-01-19", "2007-03-01", "2007-08-29", "2007-10-10", "2007-12-15",
    "2008-02-01", "2008-09-01", "2009-04-04", "latest",
)  # fmt: skip


def config_drive_files(server: ServerForHost, *, admin_password: str, random_seed: bytes) -> dict[str, bytes]:
    """Path → content of a config drive: every OpenStack version, EC2's last, and the personality files."""
    files: dict[str, bytes] = {}
    documents = openstack_files(server, admin_password=admin_password, random_seed=random_seed)
    for version in OPENSTACK_VERSIONS:
        for name, content in documents.items():
            files[f"openstack/{version}/{name}"] = content
    for name, content in personality_files(server).items():
        files[f"openstack/{name}"] = content
    for version in ("2009-04-04", "latest"):
        files[f"ec2/{version}/meta-data.json"] = _json(ec2_metadata(server))
        if user_data := user_data_of(server):
            files[f"ec2/{version}/user-data"] = user_data
    return files


def openstack_files(server: ServerForHost, *, admin_password: str = "", random_seed: bytes = b"") -> dict[str, bytes]:
    """File name → content of one `openstack/VERSION/` directory."""
    files = {
        "meta_data.json": _json(meta_data(server, admin_password=admin_password, random_seed=random_seed)),
        "network_data.json": _json(network_data(server.ports)),
        "vendor_data.json": b"{}",
        "vendor_data2.json": b"{}",
    }
    if user_data := user_data_of(server):
        files["user_data"] = user_data
    return files


def personality_files(server: ServerForHost) -> dict[str, bytes]:
    """`content/0000`, … → content of the files that the user asked for (personality)."""
    return {f"content/{number:04d}": _decoded(data) for number, (_, data) in enumerate(server.personality)}


def meta_data(server: ServerForHost, *, admin_password: str = "", random_seed: bytes = b"") -> dict[str, Any]:
    """`meta_data.json`, as of its latest version."""
    told: dict[str, Any] = {
        "uuid": server.id,
        "name": server.name,
        "hostname": server.hostname,
        "launch_index": server.launch_index,
        "availability_zone": server.availability_zone,
        "project_id": server.project_id,
        "meta": dict(server.metadata),
        "devices": _devices(server),
        "dedicated_cpus": [],
    }
    if server.public_key:
        told["public_keys"] = {server.key_name: server.public_key}
        told["keys"] = [{"name": server.key_name, "type": "ssh", "data": server.public_key}]
    if admin_password:
        told["admin_pass"] = admin_password
    if random_seed:
        told["random_seed"] = base64.b64encode(random_seed).decode()
    if server.personality:
        told["files"] = [
            {"path": path, "content_path": f"/content/{number:04d}"}
            for number, (path, _) in enumerate(server.personality)
        ]
    return told


def network_data(ports: list[PortBinding]) -> dict[str, Any]:
    """`network_data.json`: links, addresses with their routes, and name servers."""
    links: list[dict[str, Any]] = []
    networks: list[dict[str, Any]] = []
    services: list[dict[str, str]] = []
    for port in ports:
        link = f"tap{port.id[:11]}"
        links.append(
            {"id": link, "vif_id": port.id, "type": "bridge", "mtu": port.mtu, "ethernet_mac_address": port.mac}
        )
        for fixed_ip in port.fixed_ips:
            networks.append(_network(f"network{len(networks)}", link, port, fixed_ip))
        services += [{"type": "dns", "address": address} for address in port.dns]
    unique = list({service["address"]: service for service in services}.values())
    return {"links": links, "networks": networks, "services": unique}


def user_data_of(server: ServerForHost) -> bytes:
    """The user data as the user wrote it; b"" when there is none."""
    return _decoded(server.user_data) if server.user_data else b""


def ec2_metadata(server: ServerForHost, *, public_ipv4: str = "") -> dict[str, Any]:
    """EC2's `meta-data` as nested dicts: a dict is a directory. Ids are in EC2's form (`i-%08x`)."""
    addresses = [ip.address for port in server.ports for ip in port.fixed_ips]
    ipv4 = next((address for address in addresses if ":" not in address), "")
    tree: dict[str, Any] = {
        "ami-id": f"ami-{server.number:08x}" if server.image_id else "",
        "ami-launch-index": str(server.launch_index),
        "ami-manifest-path": "unknown",
        "block-device-mapping": {"ami": "vda", "root": "/dev/vda"},
        "hostname": server.hostname,
        "instance-action": "none",
        "instance-id": f"i-{server.number:08x}",
        "instance-type": server.flavor.name,
        "local-hostname": server.hostname,
        "local-ipv4": ipv4,
        "placement": {"availability-zone": server.availability_zone},
        "public-hostname": server.hostname,
        "public-ipv4": public_ipv4,
        "reservation-id": server.reservation_id,
        "security-groups": "\n".join(server.security_groups),
    }
    if server.public_key:
        tree["public-keys"] = {"0": {"openssh-key": server.public_key, "_name": f"0={server.key_name}"}}
    return tree


def ec2_answer(tree: dict[str, Any], path: str) -> str | None:
    """What `meta-data/PATH` answers: a value, or a directory's entries one per line; None when there is none."""
    here: Any = tree
    for part in path.strip("/").split("/") if path.strip("/") else ():
        if not isinstance(here, dict) or part not in here or part.startswith("_"):
            return None
        here = here[part]
    if not isinstance(here, dict):
        return str(here)
    lines = []
    for name in sorted(name for name in here if not name.startswith("_")):
        below = here[name]
        if isinstance(below, dict):
            lines.append(below.get("_name") or f"{name}/")
        else:
            lines.append(name)
    return "\n".join(lines)


def _network(name: str, link: str, port: PortBinding, fixed_ip: FixedIp) -> dict[str, Any]:
    subnet = ipaddress.ip_network(fixed_ip.cidr, strict=False)
    routes = []
    if fixed_ip.gateway:
        anywhere = "::" if subnet.version == 6 else "0.0.0.0"
        routes.append({"network": anywhere, "netmask": anywhere, "gateway": fixed_ip.gateway})
    for destination, next_hop in port.host_routes:
        route = ipaddress.ip_network(destination, strict=False)
        if route.version == subnet.version:
            routes.append({"network": str(route.network_address), "netmask": str(route.netmask), "gateway": next_hop})
    return {
        "id": name,
        "type": f"ipv{subnet.version}",
        "link": link,
        "network_id": port.network_id,
        "ip_address": fixed_ip.address,
        "netmask": str(subnet.netmask),
        "routes": routes,
        "services": [
            {"type": "dns", "address": address}
            for address in port.dns
            if ipaddress.ip_address(address).version == subnet.version
        ],
    }


def _devices(server: ServerForHost) -> list[dict[str, Any]]:
    """Devices that the user tagged, so that the guest can tell them apart."""
    nics = [
        {"type": "nic", "bus": "none", "address": "none", "mac": port.mac, "tags": [port.tag]}
        for port in server.ports
        if port.tag
    ]
    disks = [
        {
            "type": "disk", "bus": "none", "address": "none", "path": device.device_name,
            "serial": device.volume_id, "tags": [device.tag],
        }
        for device in server.block_devices
        if device.tag
    ]  # fmt: skip
    return nics + disks


def _decoded(text: str) -> bytes:
    """The bytes behind base64; what is not base64 was stored as text."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return text.encode()


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
