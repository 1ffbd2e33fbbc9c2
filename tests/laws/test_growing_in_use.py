"""A volume grows while a guest has it, by every real service: the guest is told, and the volume stays in use."""

from __future__ import annotations

from typing import Any

import pytest

from kilonova.base.faults import Fault, unavailable
from kilonova.sim.loop import run
from tests.laws.whole import Whole


async def with_volume(whole: Whole) -> tuple[str, str]:
    """(server, volume) of a guest that runs."""
    await whole.cloud.start_all()
    await whole.sleep(2)
    volume_id = await whole.create_volume()
    await whole.sleep(5)
    server_id = await whole.create_server(volume=volume_id)
    await whole.settle()
    return server_id, volume_id


async def shown(whole: Whole, volume_id: str) -> Any:
    return (await whole.ask("volume", "GET", f"/v3/volumes/{volume_id}"))["volume"]


def guest(whole: Whole, server_id: str) -> Any:
    return next(
        host.machine.guests[server_id] for host in whole.cloud.hosts.values() if server_id in host.machine.guests
    )


def test_the_guest_is_told_and_the_volume_stays_in_use() -> None:
    whole = Whole(1)

    async def main() -> None:
        server_id, volume_id = await with_volume(whole)
        await whole.extend_volume(volume_id, 3)
        assert (await shown(whole, volume_id))["status"] == "extending"
        await whole.settle()
        await whole.sleep(5)
        seen = await shown(whole, volume_id)
        assert (seen["status"], seen["size"]) == ("in-use", 3)
        assert guest(whole, server_id).grew == [volume_id]

    run(main(), 1)


def test_a_backend_that_cannot_leaves_it_as_it_was_and_a_silent_compute_does_not_matter() -> None:
    whole = Whole(2)

    async def main() -> None:
        server_id, volume_id = await with_volume(whole)
        whole.cloud.hosts["node1"].pool.refuse("extend", unavailable("The disk is full."), 9)
        await whole.extend_volume(volume_id, 3)
        await whole.sleep(60)
        seen = await shown(whole, volume_id)
        assert (seen["status"], seen["size"]) == ("in-use", 1)
        whole.cloud.hosts["node1"].pool.forgive()
        whole.cloud.crash("compute-api")
        await whole.extend_volume(volume_id, 3)
        await whole.sleep(60)
        seen = await shown(whole, volume_id)
        assert (seen["status"], seen["size"]) == ("in-use", 3)
        assert guest(whole, server_id).grew == []
        await whole.settle()

    run(main(), 2)


def test_before_3_42_a_volume_in_use_does_not_grow() -> None:
    whole = Whole(3)

    async def main() -> None:
        _, volume_id = await with_volume(whole)
        client = whole.cloud.client(whole.cloud.user, "volume")
        path, body = f"/v3/volumes/{volume_id}/action", {"os-extend": {"new_size": 3}}
        older, newer = ({"openstack-api-version": f"volume {version}"} for version in ("3.41", "3.42"))
        with pytest.raises(Fault) as refused:
            await client.request("POST", path, token="member", json=body, headers=older)
        assert "3.42" in refused.value.message
        await client.request("POST", path, token="member", json=body, headers=newer)
        await whole.settle()

    run(main(), 3)
