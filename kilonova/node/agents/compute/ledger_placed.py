"""The host's own books of what its guests have for themselves: CPUs, memory of cells, huge pages, PCI devices.

A guest keeps what it was given for as long as it is here, also while it is off. While a resize waits for its user's
word, what the old size has stays beside what the new one got.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import no_capacity
from kilonova.compute.contract import HypervisorInfo, NumaCell, PciDevice, PciPool, Placed, ServerForHost
from kilonova.compute.contract.numa import cpu_set, fit, topology_of
from kilonova.compute.contract.pci import HostPart, choose_devices, pci_wanted, pools_of
from kilonova.compute.contract.topology import with_taken
from kilonova.db.database import Database
from kilonova.db.types import Id, Text
from kilonova.node.ledger import metadata
from kilonova.trace import spans

_placed = sa.Table(
    "placed",
    metadata,
    sa.Column("server_id", Id(), primary_key=True),
    sa.Column("kept", sa.Boolean, primary_key=True),  # of the old size, until a resize is confirmed or reverted
    sa.Column("asked", Text(), nullable=False),
    sa.Column("placed", Text(), nullable=False),
)
Key = tuple[str, bool]
Row = tuple[str, Placed]  # what was asked for, what was given


class HostBooks:
    """What the host has and who has it. Only this process writes the ledger, so the rows are kept in memory, too."""

    def __init__(self, db: Database, part: HostPart) -> None:
        self._db = db
        self._part = part
        self._shared = frozenset(cpu_set(part.cpu_shared_set, "cpu_shared_set"))
        self._dedicated = frozenset(cpu_set(part.cpu_dedicated_set, "cpu_dedicated_set"))
        self._rows: dict[Key, Row] | None = None
        self._turn = asyncio.Lock()
        self.told: Callable[[], object] = lambda: None  # called when what is free has changed

    # ── what there is

    def cells(self, info: HypervisorInfo) -> list[NumaCell]:
        """The hypervisor's cells with what is taken. Without sets all CPUs are shared; dedicated ones never are."""
        rows = [placed for _, placed in (self._rows or {}).values()]
        return [with_taken(self._divided(cell), rows) for cell in info.cells]

    def _divided(self, cell: NumaCell) -> NumaCell:
        dedicated = tuple(cpu for cpu in cell.shared if cpu in self._dedicated)
        shared = tuple(
            cpu for cpu in cell.shared if cpu not in self._dedicated and (not self._shared or cpu in self._shared)
        )
        return msgspec.structs.replace(cell, shared=shared, dedicated=dedicated)

    def floating(self, info: HypervisorInfo) -> tuple[int, ...]:
        """The CPUs that guests share, when not all are shared; () when they may run anywhere."""
        if not (self._shared or self._dedicated):
            return ()
        return tuple(cpu for cell in info.cells for cpu in self._divided(cell).shared)

    def devices(self, info: HypervisorInfo) -> list[PciDevice]:
        """Those that the operator gives away, with the names by which they can be asked for."""
        return [named for one in info.pci_devices if (named := self._part.pci.named(one)) is not None]

    def pools(self, info: HypervisorInfo) -> list[PciPool]:
        """The devices, counted."""
        return pools_of(self.devices(info), self._taken_devices())

    def _taken_devices(self) -> frozenset[str]:
        return frozenset(address for _, placed in (self._rows or {}).values() for address in placed.devices)

    # ── what guests get

    async def place(self, server: ServerForHost, info: Callable[[], Any]) -> Placed:
        """What the guest has for itself; chosen at its first start here. NO_CAPACITY when the host has not enough."""
        topology = topology_of(server.flavor, server.image_properties)
        wanted = pci_wanted(server.flavor.extra_specs)
        async with self._turn:
            rows = await self._load()
            mine = (server.id, False)
            if topology is None and not wanted:
                if mine in rows:
                    await self._write(_drop, server.id, False)
                    del rows[mine]
                return Placed()
            asked = msgspec.json.encode((topology, sorted(wanted.items()))).decode()
            if mine in rows and rows[mine][0] == asked:
                return rows[mine][1]
            given = rows.pop(mine, None)
            try:
                placed = self._choose(await info(), topology, wanted)
                await self._write(_put, server.id, asked, placed)
            except BaseException:  # what it had stays its own
                if given is not None:
                    rows[mine] = given
                raise
            rows[mine] = (asked, placed)
            spans.note(f"the guest has CPUs {sorted(placed.pinned)}, devices {list(placed.devices)} for itself")
            return placed

    def _choose(self, info: HypervisorInfo, topology: Any, wanted: dict[str, int]) -> Placed:
        placed: Placed | str = Placed() if topology is None else fit(self.cells(info), topology)
        if not isinstance(placed, str) and wanted:
            near = frozenset(cell.host_cell for cell in placed.cells)
            devices = choose_devices(self.devices(info), self._taken_devices(), wanted, near)
            placed = devices if isinstance(devices, str) else msgspec.structs.replace(placed, devices=devices)
        if isinstance(placed, str):
            raise no_capacity(f"The host cannot give the server what its flavor asks for: {placed}.")
        return placed

    async def drop(self, server_id: str) -> None:
        """All that the guest had is free."""
        async with self._turn:
            await self._end(server_id, (False, True))

    async def keep(self, server_id: str) -> None:
        """What the guest has stays taken beside what it gets next, until told."""
        async with self._turn:
            rows = await self._load()
            if (server_id, False) in rows and (server_id, True) not in rows:
                await self._write(_mark, server_id, True)
                rows[server_id, True] = rows.pop((server_id, False))

    async def restore(self, server_id: str) -> None:
        """What was kept is the guest's again, and what it got since is free; nothing was kept: as it is."""
        async with self._turn:
            rows = await self._load()
            if (server_id, True) in rows:
                await self._end(server_id, (False,))
                await self._write(_mark, server_id, False)
                rows[server_id, False] = rows.pop((server_id, True))

    async def forget(self, server_id: str) -> None:
        """What was kept is free."""
        async with self._turn:
            await self._end(server_id, (True,))

    async def open(self) -> None:
        """Read what the ledger has; before that, nothing counts as taken."""
        async with self._turn:
            await self._load()

    async def _end(self, server_id: str, kept: tuple[bool, ...]) -> None:
        rows = await self._load()
        for one in kept:
            if (server_id, one) in rows:
                await self._write(_drop, server_id, one)
                del rows[server_id, one]

    async def _load(self) -> dict[Key, Row]:
        if self._rows is None:
            with spans.within(None):
                self._rows = await self._db.read(_all)
        return self._rows

    async def _write(self, unit: Callable[..., None], *args: Any) -> None:
        with spans.within(None):  # the agent's own notebook, not the cloud's database
            await self._db.write(unit, *args)
        self.told()


# ── units


def _all(connection: Connection) -> dict[Key, Row]:
    return {
        (row[0], row[1]): (row[2], msgspec.json.decode(row[3], type=Placed))
        for row in connection.execute(sa.select(_placed))
    }


def _here(server_id: str, kept: bool) -> sa.ColumnElement[bool]:
    return sa.and_(_placed.c.server_id == server_id, _placed.c.kept == kept)


def _put(connection: Connection, server_id: str, asked: str, placed: Placed) -> None:
    _drop(connection, server_id, False)
    body = msgspec.json.encode(placed).decode()
    connection.execute(sa.insert(_placed).values(server_id=server_id, kept=False, asked=asked, placed=body))


def _drop(connection: Connection, server_id: str, kept: bool) -> None:
    connection.execute(sa.delete(_placed).where(_here(server_id, kept)))


def _mark(connection: Connection, server_id: str, kept: bool) -> None:
    connection.execute(sa.update(_placed).where(_here(server_id, not kept)).values(kept=kept))
