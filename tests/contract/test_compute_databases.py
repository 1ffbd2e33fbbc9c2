"""Compute's quotas hold on SQLite, PostgreSQL and MariaDB however many requests race for the last server."""

from __future__ import annotations

import asyncio
from collections import Counter

from kilonova.db.database import Database
from kilonova.sim.peers import IMAGE, NETWORK
from tests.api.compute.support import compute_api
from tests.api.support import PROJECT
from tests.contract.test_database import db

__all__ = ["db"]
FLAVOR = {"name": "tiny", "id": "1", "ram": 128, "vcpus": 1, "disk": 1}
SERVER = {"name": "s", "flavorRef": "1", "imageRef": IMAGE, "networks": [{"uuid": NETWORK}]}


async def test_two_hundred_creates_at_once_make_ten_servers(db: Database) -> None:
    async with compute_api(db=db) as api:
        admin, member = api.as_("admin"), api.as_("member", "2.90")
        await admin.post("/v2.1/flavors", {"flavor": FLAVOR}, 200)
        replies = await asyncio.gather(*(member.send("POST", "/v2.1/servers", {"server": SERVER}) for _ in range(200)))
        answers = Counter(reply.status for reply in replies)
        odd = [reply.content for reply in replies if reply.status not in (202, 403)]
        assert answers[202] == 10 and answers[403] >= 100, (answers, odd[:1])
        assert set(answers) <= {202, 403, 503}, odd[:1]  # a database with 200 callers may say that it is busy
        refused = next(reply.json()["forbidden"]["message"] for reply in replies if reply.status == 403)
        assert refused.startswith("Quota exceeded for instances: Requested 1, but already used 10 of 10 instances")
        listed = (await member.get("/v2.1/servers?limit=1000"))["servers"]
        assert {server["id"] for server in listed} == {r.json()["server"]["id"] for r in replies if r.status == 202}
        used = (await admin.get(f"/v2.1/os-quota-sets/{PROJECT}/detail"))["quota_set"]
        assert used["instances"] == {"limit": 10, "in_use": 10, "reserved": 0}
        assert used["cores"]["in_use"] == 10 and used["ram"]["in_use"] == 1280
