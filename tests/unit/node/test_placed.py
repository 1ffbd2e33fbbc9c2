"""The host's books: what each guest has for itself, until it is gone; and the XML that it runs with."""

from __future__ import annotations

import asyncio
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from kilonova.base.faults import Fault, Kind
from kilonova.base.world import LiveWorld
from kilonova.compute.contract import Flavor, HypervisorInfo, NumaCell, Pages, PciDevice, Placed, ServerForHost
from kilonova.compute.contract.pci import HostPart, PciMatch, PciSettings
from kilonova.db.inline import InlineDatabase
from kilonova.node.agents.compute.ledger_placed import HostBooks
from kilonova.node.agents.compute.worker import shares
from kilonova.node.hypervisor.domain_xml import Platform, domain_xml
from kilonova.node.hypervisor.libvirt_host import numa_cells, pci_device
from kilonova.node.ledger import metadata
from tests.contract.test_local_disks import server as record
from tests.unit.node.test_domain_xml import SPEC

INFO = HypervisorInfo(
    "fake", 1, 8, 16384,
    cells=(
        NumaCell(0, (0, 1, 2, 3), memory_mb=8192, siblings=((0, 2), (1, 3)), pages=(Pages(2048, 1024),)),
        NumaCell(1, (4, 5, 6, 7), memory_mb=8192, siblings=((4, 6), (5, 7)), pages=(Pages(2048, 1024),)),
    ),
    pci_devices=(PciDevice("0000:81:00.0", "10de", "1eb8", 0), PciDevice("0000:82:00.0", "10de", "1eb8", 1),
                 PciDevice("0000:01:00.0", "8086", "1572", 0)),
)  # fmt: skip
PCI = PciSettings((PciMatch("10de"),), (PciMatch(vendor_id="10de", product_id="1eb8", name="gpu"),))
PART = HostPart(cpu_dedicated_set="1-3,5-7", pci=PCI)
PINNED = {"hw:cpu_policy": "dedicated"}


async def info() -> HypervisorInfo:
    return INFO


def server(id_: str, vcpus: int = 2, **specs: str) -> ServerForHost:
    return record(id=id_, flavor=Flavor("1", "f", vcpus, 2048, 0, extra_specs=specs))


async def opened(db: InlineDatabase) -> HostBooks:
    await db.write(metadata.create_all)
    books = HostBooks(db, PART)
    await books.open()
    return books


@pytest.fixture
def db() -> InlineDatabase:
    return InlineDatabase("ledger", LiveWorld("test").clock)


async def test_a_guest_keeps_its_cpus_and_gives_them_back(db: InlineDatabase) -> None:
    books = await opened(db)
    assert [(cell.shared, cell.dedicated) for cell in books.cells(INFO)] == [((0,), (1, 2, 3)), ((4,), (5, 6, 7))]
    assert books.floating(INFO) == (0, 4)
    first = await books.place(server("a", **PINNED), info)
    assert len(first.pinned) == 2
    assert await books.place(server("a", **PINNED), info) == first, "asked again, the same"
    again = await opened(db)
    assert await again.place(server("a", **PINNED), info) == first, "an agent that starts again knows"
    second = await again.place(server("b", **PINNED), info)
    assert not first.pinned & second.pinned
    with pytest.raises(Fault, match="dedicated CPUs free, 2 are wanted") as caught:
        await again.place(server("c", **PINNED), info)
    assert caught.value.kind is Kind.NO_CAPACITY
    assert sorted(cpu for cell in again.cells(INFO) for cpu in cell.pinned) == sorted(first.pinned | second.pinned)
    await again.drop("a")
    assert (await again.place(server("c", **PINNED), info)).pinned == first.pinned


async def test_racing_guests_never_share(db: InlineDatabase) -> None:
    books = await opened(db)
    asking = (books.place(server(f"s{n}", 1, **PINNED), info) for n in range(9))
    done = await asyncio.gather(*asking, return_exceptions=True)
    given = [cpu for one in done if isinstance(one, Placed) for cpu in one.pinned]
    assert sorted(given) == [1, 2, 3, 5, 6, 7]


async def test_a_resize_keeps_the_old_until_it_is_decided(db: InlineDatabase) -> None:
    for decided in ("confirm", "revert"):
        books = await opened(db)
        old = await books.place(server("a", 2, **PINNED), info)
        await books.keep("a")
        await books.keep("a")
        new = await books.place(server("a", 3, **PINNED), info)
        assert not old.pinned & new.pinned
        books = await opened(db)
        await (books.forget("a") if decided == "confirm" else books.restore("a"))
        taken = {cpu for cell in books.cells(INFO) for cpu in cell.pinned}
        assert taken == (new.pinned if decided == "confirm" else old.pinned)
        await books.drop("a")


async def test_a_flavor_without_wishes_leaves_nothing_taken(db: InlineDatabase) -> None:
    books = await opened(db)
    await books.place(server("a", **PINNED), info)
    assert await books.place(server("a"), info) == Placed()
    assert all(not cell.pinned for cell in books.cells(INFO))


async def test_devices_go_to_one_guest_each(db: InlineDatabase) -> None:
    books = await opened(db)
    assert [(pool.aliases, pool.count) for pool in books.pools(INFO)] == [(("gpu",), 1), (("gpu",), 1)]
    alias = {"pci_passthrough:alias": "gpu:1"}
    given = await books.place(server("a", **alias), info)
    near = await books.place(server("b", 1, **alias, **{"hw:numa_nodes": "1"}), info)
    assert {*given.devices, *near.devices} == {"0000:81:00.0", "0000:82:00.0"}
    with pytest.raises(Fault, match="0 free PCI devices gpu, 1 are wanted"):
        await books.place(server("c", **alias), info)
    assert sum(pool.count for pool in books.pools(INFO)) == 0
    await books.drop("a")
    assert (await books.place(server("c", **alias), info)).devices == given.devices


GOLDEN = Path(__file__).with_name("placed.golden.xml")


async def test_the_guests_xml_is_as_reviewed(db: InlineDatabase) -> None:
    books = await opened(db)
    specs = {**PINNED, "hw:numa_nodes": "2", "hw:mem_page_size": "2MB", "pci_passthrough:alias": "gpu:2"}
    placed = await books.place(server("a", 2, **specs), info)
    spec = msgspec.structs.replace(SPEC, memory_mb=2048, placed=placed)
    text = domain_xml(spec, Platform())
    wanted = {"memoryBacking", "cputune", "numatune"}
    domain = ElementTree.fromstring(text)
    parts = [ElementTree.tostring(one, encoding="unicode").strip() for one in domain if one.tag in wanted]
    parts += [ElementTree.tostring(one, encoding="unicode").strip() for one in domain.iterfind("cpu/numa")]
    parts += [ElementTree.tostring(one, encoding="unicode").strip() for one in domain.iterfind("devices/hostdev")]
    assert "\n".join(parts) + "\n" == GOLDEN.read_text()


def test_guests_that_float_keep_off_dedicated_cpus() -> None:
    domain = ElementTree.fromstring(domain_xml(msgspec.structs.replace(SPEC, shared_cpus=(0, 1, 2, 5)), Platform()))
    vcpu = domain.find("vcpu")
    assert vcpu is not None
    assert vcpu.get("cpuset") == "0-2,5"


CAPABILITIES = """<capabilities><host><topology><cells num='2'>
<cell id='0'><memory unit='KiB'>8388608</memory><pages unit='KiB' size='4'>1835008</pages>
<pages unit='KiB' size='2048'>512</pages><pages unit='KiB' size='1048576'>0</pages>
<cpus num='4'><cpu id='0' socket_id='0' core_id='0' siblings='0,2'/><cpu id='1' core_id='1' siblings='1,3'/>
<cpu id='2' core_id='0' siblings='0,2'/><cpu id='3' core_id='1' siblings='1,3'/></cpus></cell>
<cell id='1'><memory unit='KiB'>4194304</memory><cpus num='1'><cpu id='4' siblings='4'/></cpus></cell>
</cells></topology></host></capabilities>"""
DEVICE = """<device><name>pci_0000_81_00_1</name><capability type='pci'><domain>0</domain><bus>129</bus><slot>0</slot>
<function>1</function><product id='0x1572'>X710</product><vendor id='0x8086'>Intel</vendor>
<capability type='phys_function'><address domain='0x0000' bus='0x81' slot='0x00' function='0x0'/></capability>
<numa node='1'/></capability></device>"""


def test_what_libvirt_tells_of_a_host() -> None:
    assert numa_cells(ElementTree.fromstring(CAPABILITIES)) == (
        NumaCell(0, (0, 1, 2, 3), memory_mb=8192, siblings=((0, 2), (1, 3)), pages=(Pages(2048, 512),)),
        NumaCell(1, (4,), memory_mb=4096, siblings=((4,),)),
    )
    assert pci_device(ElementTree.fromstring(DEVICE)) == PciDevice("0000:81:00.1", "8086", "1572", 1, "type-VF")


def test_what_a_host_measures_is_of_the_time_since_the_last_report() -> None:
    first = {"user": 10.0, "kernel": 5.0, "idle": 100.0, "iowait": 1.0}
    assert shares({}, first) == {}
    assert shares(first, first) == {}
    told = shares(first, {"user": 13.0, "kernel": 6.0, "idle": 105.0, "iowait": 2.0})
    assert told == {"cpu.percent": 0.4, "cpu.idle.percent": 0.5, "cpu.iowait.percent": 0.1, "cpu.kernel.percent": 0.1,
                    "cpu.user.percent": 0.3}  # fmt: skip
