"""Where things are on Ceph: locations of images, disks over the network, and the domain that names no key."""

from __future__ import annotations

import pytest

from kilonova.block_storage.contract import Connection
from kilonova.compute.contract import BlockDevice, Disk, NetworkDisk
from kilonova.node.ceph.pool import Parent
from kilonova.node.guest_spec import volume_disk
from kilonova.node.hypervisor.domain_xml import disk_xml
from kilonova.node.images.rbd_parents import parent_at

FSID = "0f5e0000-0000-4000-8000-000000000001"


def test_a_location_of_the_same_cluster() -> None:
    parent = parent_at(f"rbd://{FSID}/images/one/snap", FSID)
    assert parent == Parent("images", "one", "snap")
    assert parent is not None and Parent.at(parent.path) == parent


@pytest.mark.parametrize(
    "url",
    [f"rbd://{FSID[:-1]}2/images/one/snap", f"http://{FSID}/images/one/snap", "file:///etc/shadow", "",
     f"rbd://{FSID}/images/one", f"rbd://{FSID}/images/one/snap/more", f"rbd://{FSID}/images//snap",
     f"rbd://{FSID}/images/one:conf=x/snap", f"rbd://{FSID}/images/one@two/snap", "rbd://one"],
)  # fmt: skip
def test_any_other_location_is_none(url: str) -> None:
    assert parent_at(url, FSID) is None


def test_a_volume_on_ceph_becomes_a_disk_over_the_network() -> None:
    data = {"name": "volumes/volume-1", "hosts": ["192.0.2.1", "192.0.2.2"], "ports": ["6789", "6790"],
            "auth_username": "kilonova", "secret_uuid": FSID}  # fmt: skip
    device = BlockDevice("b", "volume", "volume", 0, "/dev/vda", volume_id="v", connection=Connection("rbd", data))
    network = NetworkDisk("volumes/volume-1", (("192.0.2.1", 6789), ("192.0.2.2", 6790)), "kilonova", FSID)
    disk = volume_disk(device)
    assert (disk.network, disk.format, disk.boot_order) == (network, "raw", 1)


def test_the_domain_names_the_key_and_does_not_hold_it() -> None:
    network = NetworkDisk("disks/a_1", (("192.0.2.1", 6789),), "kilonova", FSID)
    text = disk_xml(Disk("rbd:disks/a_1", "raw", "vda", network=network))
    assert '<disk type="network" device="disk">' in text
    assert '<source protocol="rbd" name="disks/a_1"><host name="192.0.2.1" port="6789" />' in text
    assert f'<auth username="kilonova"><secret type="ceph" uuid="{FSID}" /></auth>' in text
