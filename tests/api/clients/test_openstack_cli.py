"""What users and operators type, with the unmodified `openstack` client, against the whole cloud over HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.api.clients.conftest import Client


@pytest.fixture(scope="module")
def network(member: Client) -> str:
    """A network with a subnet and a router to the outside, shared by the stories."""
    made = member("network create lab")
    member("subnet create --network lab --subnet-range 10.31.0.0/24 lab")
    member("router create lab")
    member.do("router set --external-gateway public lab")
    member.do("router add subnet lab lab")
    return str(made["id"])


def test_tokens_and_the_catalog(member: Client, admin: Client) -> None:
    token = member("token issue")
    assert token["id"] and token["project_id"] != admin("token issue")["project_id"]
    types = {row["Type"] for row in member("catalog list")}
    assert types >= {"identity", "compute", "image", "network", "block-storage", "placement"}
    credential = member("application credential create robot --role member --secret s3")
    assert credential["Secret"] == "s3" and [role["name"] for role in credential["Roles"]] == ["member"]
    member.do("application credential delete robot")
    assert "not authorized" in member.refused("user list")


def test_an_image_from_upload_to_sharing(member: Client, admin: Client, tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(bytes(range(256)) * 4096)
    options = "--disk-format raw --container-format bare --min-disk 1 --property hw_disk_bus=virtio --tag gold --shared"
    image = member(f"image create --file {disk} {options} mine")
    assert image["status"] in ("queued", "active")  # as the client saw it before it sent the data
    member.do("image set --name ours --property os_distro=debian --min-ram 128 mine")
    member.do("image unset --tag gold --property os_distro ours")
    shown = member("image show ours")
    assert (shown["status"], shown["size"], shown["min_ram"], shown["tags"]) == ("active", 1 << 20, 128, [])
    assert [row["Name"] for row in member("image list --property hw_disk_bus=virtio")] == ["ours"]
    member.do(f"image save --file {tmp_path}/back.raw ours")
    assert (tmp_path / "back.raw").read_bytes() == disk.read_bytes()
    project = admin("project show admin")["id"]
    member.do(f"image add project ours {project}")
    admin.do(f"image set --accept {image['id']}")
    assert [row["Name"] for row in admin("image list --shared --member-status accepted")] == ["ours"]
    member.do("image set --protected ours")
    assert "protected" in member.refused("image delete ours")
    member.do("image set --unprotected ours")
    member.do("image delete ours")


def test_networks_as_the_client_sends_them(member: Client, network: str) -> None:
    made = member("network create --mtu 1400 --description small --tag red net1")  # the MTU goes as a string
    assert (made["mtu"], made["description"], made["tags"]) == (1400, "small", ["red"])
    pool = "--allocation-pool start=10.9.0.10,end=10.9.0.100 --host-route destination=10.50.0.0/24,gateway=10.9.0.1"
    member(f"subnet create --network net1 --subnet-range 10.9.0.0/24 --dns-nameserver 9.9.9.9 {pool} sub1")
    port = member("port create --network net1 --fixed-ip subnet=sub1,ip-address=10.9.0.50 p1")
    assert [fixed["ip_address"] for fixed in port["fixed_ips"]] == ["10.9.0.50"]
    member.do("port set --allowed-address ip-address=10.9.0.60 --name p2 p1")
    assert [row["Name"] for row in member("port list --network net1 --fixed-ip ip-address=10.9.0.50")] == ["p2"]
    member.do("port delete p2")
    assert "still" in member.refused("network delete lab") or "in use" in member.refused("network delete lab")
    member.do("subnet delete sub1")
    member.do("network delete net1")


def test_routes_one_by_one_and_a_floating_ip(member: Client, network: str) -> None:
    for destination in ("10.78.0.0/24", "10.79.0.0/24"):
        member.do(f"router add route lab --route destination={destination},gateway=10.31.0.5")
    member.do("router remove route lab --route destination=10.78.0.0/24,gateway=10.31.0.5")
    assert [route["destination"] for route in member("router show lab")["routes"]] == ["10.79.0.0/24"]
    member.do("router unset --route destination=10.79.0.0/24,gateway=10.31.0.5 lab")
    member("port create --network lab fipport")
    address = member("floating ip create public")["floating_ip_address"]
    member.do(f"floating ip set --port fipport {address}")
    assert member(f"floating ip show {address}")["status"] == "ACTIVE"
    assert "in use" in member.refused("router remove subnet lab lab") or "required" in member.refused(
        "router remove subnet lab lab"
    )
    member.do(f"floating ip delete {address}")
    member.do("port delete fipport")


def test_security_groups(member: Client) -> None:
    member("security group create --description d web")
    member("security group rule create --protocol tcp --dst-port 80:90 --remote-ip 10.0.0.0/8 web")
    again = member.refused("security group rule create --protocol tcp --dst-port 80:90 --remote-ip 10.0.0.0/8 web")
    assert "already exists" in again
    rules = member("security group rule list web --ingress")
    assert [(row["IP Protocol"], row["Port Range"]) for row in rules] == [("tcp", "80:90")]
    member.do("security group delete web")


def test_volumes_with_the_newest_version(member: Client) -> None:
    newest = "--os-volume-api-version 3.71"
    member("volume create --size 1 --description d --property a=b v1")
    member(f"{newest} volume create --size 1 --image cirros --bootable v2")
    member.until("volume show v1", "status", "available")
    member.do("volume set --size 2 --name data --property c=d v1")
    shown = member.until("volume show data", "size", 2)
    assert shown["properties"] == {"a": "b", "c": "d"}
    member.until(f"{newest} volume show v2", "status", "available")
    assert [row["Name"] for row in member(f"{newest} volume list --status available --name data")] == ["data"]
    assert member(f"{newest} volume attachment list") == []
    member.do("volume delete data v2")


def test_a_server_with_everything(member: Client, network: str, tmp_path: Path) -> None:
    script = tmp_path / "user-data"
    script.write_text("#!/bin/sh\necho hello\n")
    member.do(f"keypair create --private-key {tmp_path}/key.pem mine")
    member("volume create --size 1 disk")
    volume = member.until("volume show disk", "status", "available")["id"]
    options = f"--nic net-id={network},v4-fixed-ip=10.31.0.77 --key-name mine --property a=b --tag t1 --description d"
    mapped = f"--block-device uuid={volume},source_type=volume,destination_type=volume,delete_on_termination=false"
    more = f"--user-data {script} --availability-zone nova --use-config-drive --hint colour=red"
    member(f"server create --flavor m1.tiny --image cirros {options} {mapped} {more} whole")
    shown = member.until("server show whole", "status", "ACTIVE")
    assert shown["addresses"] == {"lab": ["10.31.0.77"]} and shown["properties"] == {"a": "b"}
    assert shown["key_name"] == "mine" and shown["config_drive"] in (True, "True")
    assert [one["id"] for one in shown["volumes_attached"]] == [volume]
    assert member("volume show disk")["attachments"][0]["server_id"] == shown["id"]
    assert "in-use" in member.refused("volume delete disk") or "available" in member.refused("volume delete disk")
    assert [row["Name"] for row in member("server list --tags t1 --long")] == ["whole"]
    address = member("floating ip create public")["floating_ip_address"]
    member.do(f"server add floating ip whole {address}")
    member.until("server show whole", "addresses", {"lab": ["10.31.0.77", address]})
    member.do(f"server remove floating ip whole {address}")
    member.until("server show whole", "addresses", {"lab": ["10.31.0.77"]})
    member.do(f"floating ip delete {address}")
    member.do("server set --name renamed --property c=d --tag t2 whole")
    member.do("server stop renamed")
    member.until("server show renamed", "status", "SHUTOFF")
    member.do("server start renamed")
    member.until("server show renamed", "status", "ACTIVE")
    assert {row["Action"] for row in member("server event list renamed")} == {"create", "stop", "start"}
    assert member("console log show renamed", as_json=False).strip()
    assert "token" in member("console url show --novnc renamed")["url"]
    member.do("server delete --wait renamed")
    assert member("volume show disk")["status"] == "available"
    member.do("volume delete disk")


def test_servers_that_boot_from_volumes_and_come_in_twos(member: Client, network: str) -> None:
    member("volume create --size 1 --image cirros root")
    member.until("volume show root", "status", "available")
    member("server create --flavor m1.tiny --volume root --network lab from-volume")
    member("server create --flavor m1.tiny --image cirros --boot-from-volume 1 --network lab own-volume")
    member("server create --flavor m1.tiny --image cirros --nic none --min 2 --max 2 pair")
    names = ["from-volume", "own-volume", "pair-1", "pair-2"]
    for name in names:
        member.until(f"server show {name}", "status", "ACTIVE")
    assert {row["Name"] for row in member("server list --sort-column name")} == set(names)
    member.do(f"server delete --wait {' '.join(names)}")
    member.do("volume delete root")


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("server show nobody", "No Server found for nobody"),
        ("server create --flavor m1.tiny --image cirros --network lab --key-name none x", "Invalid key_name"),
        ("server create --flavor m1.tiny --image cirros --network lab --availability-zone mars x", "availability zone"),
        ("network create --external x", "Policy doesn't allow"),
    ],
)
def test_refusals_say_why(member: Client, network: str, command: str, says: str) -> None:
    assert says in member.refused(command)


def test_what_an_operator_types(admin: Client) -> None:
    flavor = admin("flavor create --ram 128 --disk 1 --vcpus 1 --property a=b big")
    assert (flavor["ram"], flavor["properties"]) == (128, {"a": "b"})
    admin.do("flavor set --property c=d big")
    admin.do("flavor delete big")
    assert {row["State"] for row in admin("compute service list")} == {"up"}
    assert [row["State"] for row in admin("hypervisor list")] == ["up"]
    assert {row["Zone Name"] for row in admin("availability zone list --compute")} == {"nova"}
    assert "__DEFAULT__" in [row["Name"] for row in admin("volume type list --long")]
    physical = "--provider-network-type vlan --provider-physical-network physnet1 --provider-segment 100"
    assert admin(f"network create --share {physical} vlan100")["provider:segmentation_id"] == 100
    admin.do("network delete vlan100")
    assert {row["Alive"] for row in admin("network agent list")} == {True}


def test_quotas(admin: Client, member: Client, network: str) -> None:
    admin.do("quota set --networks 20 --cores 30 --instances 12 --volumes 20 --gigabytes 200 demo")
    limits = {row["Resource"]: row["Limit"] for row in member("quota show")}
    assert (limits["networks"], limits["cores"], limits["volumes"]) == (20, 30, 20)
    assert "below" in admin.refused("quota set --networks 0 demo")
    admin.do("quota set --networks 0 --force demo")
    assert "Quota exceeded" in member.refused("network create one-too-many")
    admin.do("quota delete demo")
    assert {row["Resource"]: row["Limit"] for row in member("quota show")}["cores"] == 20
    absolute = {row["Name"]: row["Value"] for row in member("limits show --absolute")}
    assert absolute["total_cores"] == 20
