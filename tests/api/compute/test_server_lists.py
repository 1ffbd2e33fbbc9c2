"""Lists of servers: filters, sorting, paging; all through the door."""

from __future__ import annotations

import pytest

from tests.api.compute.test_servers import in_cloud
from tests.laws.servers import Door

NAMES = ["alpha", "beta", "beta-2", "gamma"]


async def names(door: Door, query: str, token: str = "member") -> list[str]:
    found = await door.client.as_(token).get(f"/v2.1/servers?sort_key=display_name&sort_dir=asc&{query}")
    return [server["name"] for server in found["servers"]]


async def fill(door: Door) -> dict[str, str]:
    ids = {}
    for name in NAMES:
        ids[name] = await door.create(name, tags=["all", name])
    await door.cloud.settle()
    await door.act(ids["gamma"], "os-stop")
    await door.cloud.settle()
    return ids


def test_filters() -> None:
    async def main(door: Door) -> None:
        ids = await fill(door)
        asked = {
            "name=beta": ["beta", "beta-2"],
            "name=^beta$": ["beta"],
            "status=ACTIVE": NAMES[:3],
            "status=shutoff": ["gamma"],
            "status=NO_SUCH": [],
            "tags=all,beta": ["beta"],
            "tags-any=alpha,gamma": ["alpha", "gamma"],
            "not-tags-any=beta": ["alpha", "beta-2", "gamma"],
            "not-tags=all,beta": ["alpha", "beta-2", "gamma"],
            "flavor=1": NAMES,
            "flavor=2": [],
            "image=none": [],
            f"uuid={ids['alpha']}": ["alpha"],
            "ip=^10\\.0\\.": NAMES,
            "ip=^192\\.": [],
            "changes-since=2020-01-01T00:00:00Z": NAMES,
            "changes-since=2100-01-01T00:00:00Z": [],
            "unheard_of=1": NAMES,
            "host=node9": NAMES,  # not for users: ignored
        }
        for query, expected in asked.items():
            assert await names(door, query) == expected, query
        assert await names(door, "all_tenants=1&host=node9", "admin") == []
        assert await names(door, "all_tenants=1&host=node1", "admin") == NAMES
        assert await names(door, "all_tenants=1&vm_state=stopped", "admin") == ["gamma"]

    in_cloud(main)


def test_deleted_servers_are_told_to_who_asks_for_changes() -> None:
    async def main(door: Door) -> None:
        ids = await fill(door)
        await door.delete(ids["beta"])
        await door.cloud.settle()
        assert await names(door, "") == ["alpha", "beta-2", "gamma"]
        assert await names(door, "changes-since=2020-01-01T00:00:00Z") == NAMES
        assert await names(door, "all_tenants=1&deleted=true", "admin") == ["beta"]
        assert await names(door, "deleted=true") == ["alpha", "beta-2", "gamma"]  # not for users: ignored
        await door.client.get("/v2.1/servers?status=DELETED", 403)

    in_cloud(main)


def test_pages_follow_each_other_by_their_links() -> None:
    async def main(door: Door) -> None:
        await fill(door)
        seen, target = [], "/v2.1/servers?limit=3&sort_key=display_name&sort_dir=desc"
        while target:
            page = await door.client.get(target)
            seen += [server["name"] for server in page["servers"]]
            links = page.get("servers_links", [])
            target = links[0]["href"].split("localhost", 1)[1] if links else ""
        assert seen == sorted(NAMES, reverse=True)

    in_cloud(main)


@pytest.mark.parametrize(
    "query", ["marker=gone", "limit=-1", "limit=x", "sort_key=secret", "sort_key=id&sort_dir=up", "changes-since=then",
              "name=(((", "name=(a%2B)%2B", "changes-since=2021-01-01T00:00:00Z&changes-before=2020-01-01T00:00:00Z"],
)  # fmt: skip
def test_bad_queries_are_400(query: str) -> None:
    async def main(door: Door) -> None:
        await door.client.get(f"/v2.1/servers?{query}", 400)

    in_cloud(main)
