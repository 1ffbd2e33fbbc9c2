"""Lists of servers: filters, sorting, paging; all through the door."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import Connection

from kilonova.compute.server import store
from kilonova.compute.server.store import servers
from kilonova.db.statements import update
from tests.api.compute.test_servers import in_cloud
from tests.laws.servers import STATUS, STORIES, Door

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


async def seen_twice(door: Door) -> list[dict[str, Any]]:
    """The list in detail, as it is remembered; it must be as it is read anew, for a pattern is tried on records."""
    kept = (await door.client.get("/v2.1/servers/detail"))["servers"]
    assert kept == (await door.client.get("/v2.1/servers/detail"))["servers"]
    assert kept == (await door.client.get("/v2.1/servers/detail?name=.*"))["servers"]
    return kept  # type: ignore[no-any-return]


def test_nothing_that_is_done_to_a_server_leaves_its_old_look_in_the_list() -> None:
    async def main(door: Door) -> None:
        other = await door.create("other")
        looks = []
        for name, story in STORIES.items():
            if name == "restore":  # of a cloud that deletes softly
                continue
            server_id = await door.create()
            await seen_twice(door)
            await door.cloud.settle()
            looks.append(await seen_twice(door))
            for action, argument in story:
                if action == "DELETE":
                    await door.delete(server_id)
                else:
                    await door.act(server_id, action, STATUS.get(action, 202), argument)
                looks.append(await seen_twice(door))
                await door.cloud.settle()
                looks.append(await seen_twice(door))
            if story[-1][0] != "DELETE":
                await door.delete(server_id)
                await door.cloud.settle()
        path = f"/v2.1/servers/{other}"
        client = door.client
        await client.put(path, {"server": {"name": "renamed", "description": "new"}})
        looks.append(await seen_twice(door))
        await client.put(f"{path}/tags/blue", None, 201)
        looks.append(await seen_twice(door))
        await client.post(f"{path}/metadata", {"metadata": {"a": "b"}}, 200)
        looks.append(await seen_twice(door))
        await client.delete(f"{path}/tags/blue", 204)
        looks.append(await seen_twice(door))
        await door.act(other, "lock", body={"locked_reason": "why"})
        looks.append(await seen_twice(door))
        await client.as_("admin").post(f"{path}/action", {"os-resetState": {"state": "error"}}, 202)
        looks.append(await seen_twice(door))
        assert all(one != after for one, after in pairwise(looks[-7:]))

    in_cloud(main)


@pytest.mark.parametrize("column", [c.name for c in servers.c if c.name not in ("number", "id", "changes")])
def test_every_write_to_a_server_is_counted(column: str) -> None:
    async def main(door: Door) -> None:
        server_id = await door.create()
        await door.cloud.settle()
        db = door.cloud.api.db

        def written(connection: Connection) -> tuple[int, int, int]:
            before = store.get(connection, server_id)
            update(connection, servers, {"id": server_id}, {column: getattr(before, column)})
            between = store.get(connection, server_id).changes
            connection.execute(servers.update().where(servers.c.id == server_id).values({column: servers.c[column]}))
            return before.changes, between, store.get(connection, server_id).changes

        first, second, third = await db.write(written)
        assert (second, third) == (first + 1, first + 2)

    in_cloud(main)
