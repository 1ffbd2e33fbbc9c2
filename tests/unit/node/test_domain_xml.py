"""The XML of a guest: one golden text, and what must hold whatever the names are."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from kilonova.compute.contract import Disk, GuestSpec, Nic
from kilonova.node.hypervisor.domain_xml import Platform, domain_xml

GOLDEN = Path(__file__).with_name("domain.golden.xml")

SPEC = GuestSpec(
    id="7d1f0a52-3f0a-4c6e-9c1e-000000000001",
    name="ab12instance-00000001",
    vcpus=2,
    memory_mb=512,
    disks=(
        Disk("/var/lib/kilonova/servers/1/disk", "qcow2", "vda", serial="root", boot_order=1),
        Disk("/var/lib/kilonova/volumes/volume-2", "raw", "vdb", serial="volume-2", shareable=True, cache="none"),
        Disk("/var/lib/kilonova/servers/1/disk.config", "raw", "hdd", bus="ide", device="cdrom", read_only=True),
    ),
    nics=(Nic("port", "fa:16:3e:00:00:01", "ab12tap1", 1450),),
    console_log="/var/lib/kilonova/servers/1/console.log",
    description="web <1> & 'co'",
    vcpu_shares=200,
)


def test_the_whole_text_is_as_reviewed() -> None:
    assert domain_xml(SPEC, Platform()) == GOLDEN.read_text()


def test_kvm_changes_type_and_cpu_and_nothing_is_emulated() -> None:
    domain = ElementTree.fromstring(domain_xml(SPEC, Platform(accelerator="kvm")))
    assert domain.get("type") == "kvm"
    assert domain.find("cpu[@mode='host-model']") is not None
    assert domain.find("features/tcg") is None


def test_without_the_cpu_cgroup_there_are_no_shares() -> None:
    assert "<shares>" not in domain_xml(SPEC, Platform(cpu_shares=False))


@given(st.text())
def test_no_name_breaks_out_of_its_element(name: str) -> None:
    spec = GuestSpec(SPEC.id, "n", 1, 64, disks=(Disk(f"/d/{'x' * 3}", "raw", "vda"),), nics=(), console_log="/c",
                     description=name)  # fmt: skip
    text = domain_xml(spec, Platform())
    domain = ElementTree.fromstring(text.encode())
    assert [child.tag for child in domain] == [
        child.tag for child in ElementTree.fromstring(domain_xml(spec, Platform()))
    ]
    assert len(domain.findall("devices/disk")) == 1
    assert domain.findtext("name") == "n"
