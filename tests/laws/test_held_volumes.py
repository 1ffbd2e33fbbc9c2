"""A volume named in a create is free again when no server comes of it, however the create ended."""

from __future__ import annotations

from typing import Any

from kilonova.block_storage.contract import VolumeRef
from kilonova.sim import whole_store
from kilonova.sim.loop import run
from kilonova.sim.whole_books import Seen
from kilonova.sim.wire import Door
from tests.laws import servers
from tests.laws.whole import Whole

VOLUME = "00000000-0000-4000-8000-000000000001"
MAPPING = {"source_type": "volume", "uuid": VOLUME, "destination_type": "volume", "boot_index": 0}


def test_a_create_that_finds_no_host_frees_the_volume_at_once() -> None:
    door = servers.Door(1, hosts=1)

    async def main() -> str:
        await door.cloud.start()
        door.cloud.books.providers.clear()
        door.cloud.books.volumes[VOLUME] = VolumeRef(VOLUME, "v", "available", 2, True, False, "nova")
        server_id = await door.create(imageRef="", block_device_mapping_v2=[MAPPING])
        assert door.cloud.books.volumes[VOLUME].status == "reserved"
        await door.cloud.settle()
        return server_id

    assert door.state(run(main(), 1)) == "error"
    assert door.cloud.books.volumes[VOLUME].status == "available"
    door.balance()


def statuses(whole: Whole) -> dict[str, str]:
    """volume id → status, as block storage's database has it."""
    with whole.cloud.databases["block_storage"].engine.connect() as connection:
        return {one.id: one.status for one in whole_store.all_volumes(connection)}


class Killer:
    """Block storage's door; the compute API dies as soon as its reservation has been made, before it hears of it."""

    def __init__(self, whole: Whole) -> None:
        self.whole, self.door, self.killed = whole, whole.cloud.doors["volume"], 0
        whole.cloud.doors["volume"] = Door(self.door.world, self)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        await self.door.app(scope, receive, send)
        if scope["method"] == "POST" and scope["path"].endswith("/attachments"):
            self.killed += 1
            self.whole.cloud.crash("compute-api")


def test_an_api_that_dies_between_reserving_and_recording_leaves_no_volume_reserved() -> None:
    whole = Whole(1)

    async def main() -> list[str]:
        await whole.cloud.start_all()
        await whole.sleep(2)
        volume = await whole.create_volume()
        while statuses(whole)[volume] != "available":
            await whole.sleep(0.5)
        killer = Killer(whole)
        assert await whole.create_server(volume=volume) == "", "nobody was there to answer"
        assert (killer.killed, Seen(whole.cloud).servers) == (1, [])
        seen = [statuses(whole)[volume]]
        await whole.cloud.start_all()
        for _ in range(2):  # a request may take its time; after that nobody can want the volume any more
            await whole.sleep(200)
            seen.append(statuses(whole)[volume])
        await whole.settle()
        return seen

    assert run(main(), 1) == ["reserved", "reserved", "available"]
