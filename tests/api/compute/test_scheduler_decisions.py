"""Operators read why servers went where they did; tenants do not."""

from __future__ import annotations

from kilonova.compute.contract import Rejection
from kilonova.compute.scheduler.kept import DatabaseRecorder, Kept
from tests.api.compute.support import Api

PATH = "/v2.1/os-scheduler-decisions"


async def test_decisions_are_read_by_server_or_request(api: Api) -> None:
    now = api.compute.world.clock.now()
    one = Kept("d1", "s1", "req-1", "p", now, "", 7, "No valid host was found.", {"flavor": "m1.tiny"},
               [("Placement", 0)], [], [Rejection("node1", "Placement", "no room for 2 VCPUs (free: 1)")])  # fmt: skip
    two = Kept("d2", "s2", "req-1", "p", now, "node2", 8, "", {}, [("Placement", 3)], [("node2", 1.5)], [])
    await DatabaseRecorder(api.compute.db).keep([one, two])
    admin = api.as_("admin", "2.1")
    (told,) = (await admin.get(f"{PATH}?about=s1"))["decisions"]
    assert (told["host"], told["left"]) == (None, [{"filter": "Placement", "hosts": 0}])
    assert told["rejections"] == [{"host": "node1", "filter": "Placement", "reason": "no room for 2 VCPUs (free: 1)"}]
    assert [shown["id"] for shown in (await admin.get(f"{PATH}?about=req-1"))["decisions"]] == ["d2", "d1"]
    assert (await admin.get(f"{PATH}?about=other"))["decisions"] == []
    await api.as_("member", "2.1").get(f"{PATH}?about=s1", 403)
