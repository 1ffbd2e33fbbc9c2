"""What flavors and images may ask of NUMA cells, CPUs and pages, and what a host's cells can give."""

from __future__ import annotations

import msgspec
import pytest

from kilonova.base.faults import Fault, Kind
from kilonova.compute.contract import Flavor, NumaCell, Pages, PciDevice
from kilonova.compute.contract.numa import GuestCell, Topology, cpu_set, fit, topology_of
from kilonova.compute.contract.pci import PciMatch, PciSettings, choose_devices, pci_wanted, pools_of
from kilonova.compute.contract.topology import Placed, with_taken

ONE = (GuestCell((0, 1, 2, 3), 4096),)
TWO = (GuestCell((0, 1), 2048), GuestCell((2, 3), 2048))


def asked(specs: dict[str, str], image: dict[str, str] | None = None) -> Topology | None:
    return topology_of(Flavor("1", "f", 4, 4096, 0, extra_specs=specs), image or {})


@pytest.mark.parametrize(
    ("specs", "image", "expected"),
    [
        ({}, {}, None),
        ({"hw:cpu_policy": "shared", "hw:mem_page_size": "small"}, {}, None),
        ({"hw:cpu_policy": "dedicated"}, {}, Topology(ONE, True)),
        ({}, {"hw_cpu_policy": "dedicated"}, Topology(ONE, True)),
        ({"hw:cpu_policy": "dedicated"}, {"hw_cpu_thread_policy": "isolate"}, Topology(ONE, True, "isolate")),
        ({"hw:numa_nodes": "2"}, {}, Topology(TWO)),
        ({}, {"hw_numa_nodes": "2", "hw_cpu_policy": "dedicated"}, Topology(TWO, True)),
        ({"hw:mem_page_size": "large"}, {}, Topology(ONE, pages="large")),
        ({"hw:mem_page_size": "any"}, {"hw_mem_page_size": "2MB"}, Topology(ONE, pages="2048")),
        ({"hw:mem_page_size": "1GB"}, {}, Topology(ONE, pages="1048576")),
        ({"hw:mem_page_size": "2048"}, {}, Topology(ONE, pages="2048")),
        (
            {"hw:numa_nodes": "2", "hw:numa_cpus.0": "0-2", "hw:numa_mem.0": "3072", "hw:numa_cpus.1": "3",
             "hw:numa_mem.1": "1024"}, {}, Topology((GuestCell((0, 1, 2), 3072), GuestCell((3,), 1024))),
        ),
    ],
)  # fmt: skip
def test_what_is_asked_for(specs: dict[str, str], image: dict[str, str], expected: Topology | None) -> None:
    assert asked(specs, image) == expected


@pytest.mark.parametrize(
    ("specs", "image", "told"),
    [
        ({"hw:cpu_policy": "shared"}, {"hw_cpu_policy": "dedicated"}, "the flavor for shared"),
        ({"hw:cpu_policy": "mine"}, {}, "none of shared, dedicated"),
        ({"hw:cpu_thread_policy": "isolate"}, {}, "needs hw:cpu_policy=dedicated"),
        ({"hw:cpu_policy": "dedicated", "hw:cpu_thread_policy": "prefer"}, {"hw_cpu_thread_policy": "require"},
         "the image asks for cpu_thread_policy require"),
        ({}, {"hw_mem_page_size": "large"}, "only when the flavor says"),
        ({"hw:mem_page_size": "huge"}, {}, "page size 'huge'"),
        ({"hw:mem_page_size": "0"}, {}, "page size '0'"),
        ({"hw:numa_nodes": "3"}, {}, "divided evenly"),
        ({"hw:numa_nodes": "0"}, {}, "a number from 1"),
        ({"hw:numa_nodes": "two"}, {}, "a number from 1"),
        ({"hw:numa_nodes": "1"}, {"hw_numa_nodes": "2"}, "other NUMA nodes"),
        ({"hw:numa_nodes": "2", "hw:numa_cpus.0": "0-3"}, {}, "for each NUMA node, or for none"),
        ({"hw:numa_nodes": "1", "hw:numa_cpus.0": "0-2", "hw:numa_mem.0": "4096"}, {}, "each of the 4 CPUs once"),
        ({"hw:numa_nodes": "1", "hw:numa_cpus.0": "0-3", "hw:numa_mem.0": "1"}, {}, "add up to 4096 MB"),
    ],
)  # fmt: skip
def test_contradictions_are_refused(specs: dict[str, str], image: dict[str, str], told: str) -> None:
    with pytest.raises(Fault, match=told) as caught:
        asked(specs, image)
    assert caught.value.kind is Kind.INVALID


def test_sets_of_cpus() -> None:
    assert cpu_set("0-3,^2,8", "x") == (0, 1, 3, 8)
    assert cpu_set("", "x") == ()
    for wrong in ("a", "3-1", "1-", "0-99999"):
        with pytest.raises(Fault, match="no set of CPUs"):
            cpu_set(wrong, "x")


# Two cells, each with two cores of two threads that may be dedicated, and one CPU that is shared.
CELLS = [
    NumaCell(0, (8,), (0, 1, 4, 5), 8192, ((0, 4), (1, 5), (8,)), (Pages(2048, 1024),)),
    NumaCell(1, (9,), (2, 3, 6, 7), 8192, ((2, 6), (3, 7), (9,)), (Pages(2048, 512), Pages(1 << 20, 2))),
]


def placed(specs: dict[str, str], cells: list[NumaCell] | None = None) -> Placed | str:
    wanted = asked(specs)
    assert wanted is not None
    return fit(CELLS if cells is None else cells, wanted)


def pins(given: Placed | str) -> list[int]:
    assert isinstance(given, Placed), given
    return [cpus[0] for cell in given.cells for cpus in cell.cpus]


def test_threads_of_one_guest_share_cores() -> None:
    assert pins(placed({"hw:cpu_policy": "dedicated"})) == [0, 4, 1, 5]


def test_isolated_threads_leave_siblings_unused() -> None:
    two = {"hw:cpu_policy": "dedicated", "hw:cpu_thread_policy": "isolate", "hw:numa_nodes": "2"}
    given = placed(two)
    assert pins(given) == [0, 1, 2, 3]
    assert isinstance(given, Placed)
    assert given.pinned == frozenset(range(8)), "nobody gets the siblings"
    one_cell = {"hw:cpu_policy": "dedicated", "hw:cpu_thread_policy": "isolate"}
    assert placed(one_cell) == "NUMA cell 0 has 2 whole cores free, 4 are wanted"


def test_required_threads_need_cores_with_siblings() -> None:
    require = {"hw:cpu_policy": "dedicated", "hw:cpu_thread_policy": "require"}
    assert pins(placed(require)) == [0, 4, 1, 5]
    flat = [NumaCell(0, (), (0, 1, 2, 3), 8192)]
    assert placed(require, flat) == "NUMA cell 0 has 0 threads of free cores, 4 are wanted"


def test_what_others_have_is_not_given_again() -> None:
    dedicated = {"hw:cpu_policy": "dedicated"}
    first = placed(dedicated)
    assert isinstance(first, Placed)
    left = [with_taken(cell, [first]) for cell in CELLS]
    second = placed(dedicated, left)
    assert pins(second) == [2, 6, 3, 7]
    assert isinstance(second, Placed)
    full = [with_taken(cell, [first, second]) for cell in CELLS]
    assert placed(dedicated, full) == "NUMA cell 0 has 2048 MB free, 4096 are wanted"
    roomy = [msgspec.structs.replace(cell, memory_mb_used=0) for cell in full]
    assert placed(dedicated, roomy) == "NUMA cell 0 has 0 dedicated CPUs free, 4 are wanted"


def test_uneven_cells_find_the_cells_that_hold_them() -> None:
    specs = {"hw:numa_nodes": "2", "hw:numa_cpus.0": "0", "hw:numa_mem.0": "1024", "hw:numa_cpus.1": "1-3",
             "hw:numa_mem.1": "3072", "hw:cpu_policy": "dedicated"}  # fmt: skip
    small, large = NumaCell(0, (), (0,), 2048), NumaCell(1, (), (1, 2, 3, 4), 4096)
    for cells in ([small, large], [large, small]):
        given = placed(specs, cells)
        assert isinstance(given, Placed)
        assert [cell.host_cell for cell in given.cells] == [0, 1]


def test_the_search_ends_however_many_ways_there_are() -> None:
    flavor = Flavor("1", "f", 16, 16384, 0, extra_specs={"hw:numa_nodes": "16", "hw:cpu_policy": "dedicated"})
    wanted = topology_of(flavor, {})
    assert wanted is not None
    nearly = [NumaCell(number, (), (number,) if number else (), 2048) for number in range(16)]
    assert fit(nearly, wanted) == "NUMA cell 0 has 0 dedicated CPUs free, 1 are wanted"


def test_floating_guests_of_a_cell_run_on_its_shared_cpus() -> None:
    given = placed({"hw:numa_nodes": "2"})
    assert isinstance(given, Placed)
    assert [cell.cpus for cell in given.cells] == [((8,), (8,)), ((9,), (9,))]
    assert given.pinned == frozenset()


@pytest.mark.parametrize(
    ("size", "page_kib", "host_cell"),
    [("2MB", 2048, 0), ("large", 1 << 20, 1), ("1GB", 1 << 20, 1), ("any", 2048, 0), ("small", 4, 0)],
)
def test_pages(size: str, page_kib: int, host_cell: int) -> None:
    small = Flavor("1", "f", 1, 2048, 0, extra_specs={"hw:mem_page_size": size, "hw:numa_nodes": "1"})
    cells = [CELLS[host_cell]]
    wanted = topology_of(small, {})
    assert wanted is not None
    found = fit(cells, wanted)
    assert isinstance(found, Placed)
    assert (found.cells[0].page_kib, found.cells[0].host_cell) == (page_kib, host_cell)


def test_pages_and_memory_run_out() -> None:
    huge = {"hw:mem_page_size": "2MB"}
    anything = placed({"hw:mem_page_size": "any"}, CELLS[:1])
    assert isinstance(anything, Placed)
    assert anything.cells[0].page_kib == 4, "4096 MB are more than its huge pages hold"
    assert placed(huge) == "NUMA cell 0 has not enough 2048 KiB pages for 4096 MB (free: 1024 of 2048 KiB)"
    taken = placed({"hw:numa_nodes": "1"})
    assert isinstance(taken, Placed)
    left = [with_taken(CELLS[0], [taken])]
    assert placed({"hw:numa_nodes": "1"}, left) == "NUMA cell 0 has 2048 MB free, 4096 are wanted"
    assert placed({"hw:numa_nodes": "2"}, CELLS[:1]) == "it has 1 NUMA cells, 2 are wanted"


# ── PCI

GPU = [PciDevice(f"0000:81:00.{number}", "10de", "1eb8", number % 2, aliases=("gpu",)) for number in range(4)]


def test_devices_by_alias() -> None:
    assert pci_wanted({"pci_passthrough:alias": "gpu:2, nic"}) == {"gpu": 2, "nic": 1}
    for wrong in (":1", "gpu:0", "gpu:x"):
        with pytest.raises(Fault, match="is not NAME:COUNT"):
            pci_wanted({"pci_passthrough:alias": wrong})
    none: frozenset[str] = frozenset()
    assert choose_devices(GPU, none, {"gpu": 2}, frozenset({1})) == ("0000:81:00.1", "0000:81:00.3")
    assert choose_devices(GPU, frozenset({"0000:81:00.1"}), {"gpu": 2}, frozenset({1})) == (
        "0000:81:00.3",
        "0000:81:00.0",
    )
    assert choose_devices(GPU[:1], none, {"gpu": 2}, none) == "it has 1 free PCI devices gpu, 2 are wanted"
    assert [(one.numa_node, one.total, one.count) for one in pools_of(GPU, frozenset({"0000:81:00.1"}))] == [
        (0, 2, 2),
        (1, 2, 1),
    ]


def test_hosts_give_away_what_the_operator_names() -> None:
    settings = PciSettings((PciMatch("10de"),), (PciMatch("10de", "1eb8", name="gpu"),))
    assert settings.named(PciDevice("0000:81:00.0", "8086", "1eb8")) is None
    named = settings.named(PciDevice("0000:81:00.0", "10de", "1eb8"))
    assert named is not None
    assert named.aliases == ("gpu",)
    with pytest.raises(Fault, match="names no device"):
        PciSettings((PciMatch(),))
    with pytest.raises(Fault, match="has no name"):
        PciSettings(alias=(PciMatch("10de"),))
