"""A real guest with a CPU of its own: what libvirt tells of the host, what the books give, where QEMU's threads run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from kilonova.compute.contract import Flavor
from kilonova.compute.contract.numa import cpu_set
from kilonova.compute.contract.pci import HostPart
from kilonova.db.inline import InlineDatabase
from kilonova.node.agents.compute.ledger_placed import HostBooks
from kilonova.node.ledger import metadata
from tests.contract.test_local_disks import server
from tests.real.libvirt_rig import LibvirtRig, make

pytestmark = [pytest.mark.root, pytest.mark.guest]


@pytest.fixture
async def rig() -> AsyncIterator[LibvirtRig]:
    made = await make()
    yield made
    await made.close()


def threads(guest_id: str) -> dict[str, str]:
    """Where each vCPU thread of the guest's QEMU may run: `CPU 0/TCG` → `1`."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if guest_id.encode() not in (process / "cmdline").read_bytes():
                continue
            for task in (process / "task").iterdir():
                name = (task / "comm").read_text().strip()
                if name.startswith("CPU "):
                    told = (task / "status").read_text().split("Cpus_allowed_list:")[1]
                    found[name] = told.split()[0]
        except OSError:  # it ended meanwhile
            continue
    return found


async def test_a_vcpu_runs_on_the_cpu_that_is_its_own_and_nowhere_else(rig: LibvirtRig) -> None:
    info = await rig.hypervisor.info()
    assert sum(len(cell.shared) for cell in info.cells) == info.vcpus
    last = max(cpu for cell in info.cells for cpu in cell.shared)
    ledger = InlineDatabase("ledger", rig.world.clock)
    await ledger.write(metadata.create_all)
    books = HostBooks(ledger, HostPart(cpu_dedicated_set=str(last)))
    await books.open()
    flavor = Flavor("1", "m1.pinned", 1, 64, 1, extra_specs={"hw:cpu_policy": "dedicated"})
    placed = await books.place(server(flavor=flavor), rig.hypervisor.info)
    assert placed.pinned == {last}
    pinned = msgspec.structs.replace(await rig.spec(), placed=placed)
    await rig.hypervisor.ensure_started(pinned)
    assert set(threads(pinned.id).values()) == {str(last)}
    floating = msgspec.structs.replace(await rig.spec(), shared_cpus=books.floating(info))
    await rig.hypervisor.ensure_started(floating)
    allowed = set(threads(floating.id).values())
    assert allowed
    assert not any(last in cpu_set(one, "threads") for one in allowed)
    for spec in (pinned, floating):
        await rig.hypervisor.ensure_gone(spec.id)
