"""What a server learns of itself, key by key as OpenStack's and EC2's readers expect it."""

from __future__ import annotations

import base64
import json
from typing import Any

from kilonova.compute.contract import Flavor, ServerForHost
from kilonova.compute.metadata_tree import (
    OPENSTACK_VERSIONS,
    config_drive_files,
    ec2_answer,
    ec2_metadata,
    meta_data,
    network_data,
    openstack_files,
)
from kilonova.network.contract import FixedIp, PortBinding

PORT = PortBinding(
    id="0aa1b2c3-0000-4000-8000-000000000009",
    network_id="net",
    network_name="private",
    mac="fa:16:3e:00:00:01",
    fixed_ips=[
        FixedIp("10.0.0.5", "s4", "10.0.0.0/24", "10.0.0.1"),
        FixedIp("fd00::5", "s6", "fd00::/64", "fd00::1"),
    ],
    mtu=1450,
    status="ACTIVE",
    tag="blue",
    dns=["9.9.9.9"],
    host_routes=[("192.168.0.0/16", "10.0.0.9")],
)


def server(**more: Any) -> ServerForHost:
    values: dict[str, Any] = {
        "id": "7d1f0a52-3f0a-4c6e-9c1e-000000000001", "number": 26, "name": "web", "hostname": "web-host",
        "project_id": "p", "user_id": "u", "availability_zone": "nova", "flavor": Flavor("1", "m1.tiny", 1, 512, 1),
        "image_id": "i", "image_properties": {}, "key_name": "mine", "public_key": "ssh-ed25519 AAAA",
        "user_data": base64.b64encode(b"\x00binary").decode(), "config_drive": True, "metadata": {"k": "v"},
        "personality": [("/etc/motd", base64.b64encode(b"hello").decode())], "port_requests": [],
        "security_groups": ["default", "web"], "block_devices": [], "ports": [PORT],
        "created_at": "2026-11-20T12:00:00Z", "reservation_id": "r-abc",
    }  # fmt: skip
    return ServerForHost(**{**values, **more})


def test_meta_data_names_keys_files_and_devices() -> None:
    told = meta_data(server(), admin_password="pw", random_seed=b"seed")
    assert told["hostname"] == "web-host"
    assert told["public_keys"] == {"mine": "ssh-ed25519 AAAA"}
    assert told["keys"] == [{"name": "mine", "type": "ssh", "data": "ssh-ed25519 AAAA"}]
    assert told["files"] == [{"path": "/etc/motd", "content_path": "/content/0000"}]
    assert told["admin_pass"] == "pw"
    assert base64.b64decode(told["random_seed"]) == b"seed"
    assert told["devices"] == [
        {"type": "nic", "bus": "none", "address": "none", "mac": "fa:16:3e:00:00:01", "tags": ["blue"]}
    ]


def test_the_metadata_service_never_tells_the_password() -> None:
    assert b"admin_pass" not in b"".join(openstack_files(server()).values())


def test_user_data_is_bytes_as_the_user_gave_them() -> None:
    assert openstack_files(server())["user_data"] == b"\x00binary"
    assert "user_data" not in openstack_files(server(user_data=""))


def test_network_data_has_a_network_per_address() -> None:
    told = network_data([PORT])
    assert told["links"] == [
        {
            "id": "tap0aa1b2c3-00", "vif_id": PORT.id, "type": "bridge", "mtu": 1450,
            "ethernet_mac_address": "fa:16:3e:00:00:01",
        }
    ]  # fmt: skip
    four, six = told["networks"]
    assert (four["type"], four["ip_address"], four["netmask"]) == ("ipv4", "10.0.0.5", "255.255.255.0")
    assert four["routes"] == [
        {"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.0.0.1"},
        {"network": "192.168.0.0", "netmask": "255.255.0.0", "gateway": "10.0.0.9"},
    ]
    assert (six["type"], six["netmask"]) == ("ipv6", "ffff:ffff:ffff:ffff::")
    assert six["routes"] == [{"network": "::", "netmask": "::", "gateway": "fd00::1"}]
    assert told["services"] == [{"type": "dns", "address": "9.9.9.9"}]


def test_a_config_drive_has_every_version_and_the_files() -> None:
    files = config_drive_files(server(), admin_password="", random_seed=b"")
    for version in OPENSTACK_VERSIONS:
        assert json.loads(files[f"openstack/{version}/meta_data.json"])["name"] == "web"
    assert files["openstack/content/0000"] == b"hello"
    assert json.loads(files["ec2/latest/meta-data.json"])["instance-id"] == "i-0000001a"


def test_ec2_directories_list_their_entries() -> None:
    tree = ec2_metadata(server(), public_ipv4="203.0.113.7")
    root = (ec2_answer(tree, "/") or "").splitlines()
    assert {"instance-id", "placement/", "public-keys/"} <= set(root)
    assert ec2_answer(tree, "local-ipv4") == "10.0.0.5"
    assert ec2_answer(tree, "public-ipv4") == "203.0.113.7"
    assert ec2_answer(tree, "public-keys/") == "0=mine"
    assert ec2_answer(tree, "public-keys/0/") == "openssh-key"
    assert ec2_answer(tree, "public-keys/0/openssh-key") == "ssh-ed25519 AAAA"
    assert ec2_answer(tree, "placement/availability-zone") == "nova"
    assert ec2_answer(tree, "security-groups") == "default\nweb"
    assert ec2_answer(tree, "nothing/here") is None
    assert ec2_answer(tree, "public-keys/0/_name") is None
