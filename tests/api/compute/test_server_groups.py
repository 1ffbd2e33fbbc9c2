"""Server groups through the door, and on a whole cloud where servers of one group race for hosts."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from kilonova.sim import whole_books
from kilonova.sim.loop import run
from tests.api.compute.support import Api
from tests.laws.whole import Whole

PATH = "/v2.1/os-server-groups"


async def test_each_version_has_its_shape(api: Api) -> None:
    old = {"server_group": {"name": "g", "policies": ["anti-affinity"]}}
    new = {"server_group": {"name": "g", "policy": "anti-affinity", "rules": {"max_server_per_host": 3}}}
    made = (await api.as_("member", "2.1").post(PATH, old, 200))["server_group"]
    assert made == {"id": made["id"], "name": "g", "policies": ["anti-affinity"], "members": [], "metadata": {}}
    made = (await api.as_("member", "2.13").post(PATH, old, 200))["server_group"]
    assert {"project_id", "user_id"} <= set(made)
    made = (await api.as_("member", "2.64").post(PATH, new, 200))["server_group"]
    assert (made["policy"], made["rules"]) == ("anti-affinity", {"max_server_per_host": 3})
    assert set(made) == {"id", "name", "policy", "rules", "members", "project_id", "user_id"}
    shown = (await api.as_("reader", "2.64").get(f"{PATH}/{made['id']}"))["server_group"]
    assert shown == made
    assert (await api.as_("member", "2.13").get(f"{PATH}/{made['id']}"))["server_group"]["policies"] == [
        "anti-affinity"
    ]


@pytest.mark.parametrize(
    ("version", "wanted"),
    [
        ("2.1", {"name": "g", "policies": ["soft-affinity"]}),
        ("2.1", {"name": "g", "policies": []}),
        ("2.1", {"name": "g", "policies": ["affinity", "anti-affinity"]}),
        ("2.1", {"name": "g", "policies": ["legacy"]}),
        ("2.1", {"name": "g"}),
        ("2.1", {"name": "", "policies": ["affinity"]}),
        ("2.63", {"name": "g", "policy": "affinity"}),
        ("2.64", {"name": "g", "policies": ["affinity"]}),
        ("2.64", {"name": "g"}),
        ("2.64", {"name": "g", "policy": "affinity", "rules": {"max_server_per_host": 2}}),
        ("2.64", {"name": "g", "policy": "anti-affinity", "rules": {"max_server_per_host": 0}}),
        ("2.64", {"name": "g", "policy": "anti-affinity", "rules": {"other": 1}}),
    ],
)
async def test_what_is_no_group_is_refused(api: Api, version: str, wanted: dict[str, Any]) -> None:
    await api.as_("member", version).post(PATH, {"server_group": wanted}, 400)
    assert (await api.as_("member").get(PATH))["server_groups"] == []


async def test_who_may_what(api: Api) -> None:
    body = {"server_group": {"name": "g", "policies": ["affinity"]}}
    await api.as_("reader").post(PATH, body, 403)
    made = (await api.as_("member").post(PATH, body, 200))["server_group"]
    one = f"{PATH}/{made['id']}"
    for path in (one,):
        await api.as_("other").get(path, 404)
        await api.as_("other").delete(path, 404)
        await api.as_("reader").delete(path, 403)
    assert (await api.as_("other").get(f"{PATH}?all_projects=1"))["server_groups"] == []
    assert len((await api.as_("admin").get(f"{PATH}?all_projects=1"))["server_groups"]) == 1
    await api.as_("member").delete(one, 204)
    await api.as_("member").get(one, 404)


async def test_lists_have_pages_and_the_quota_counts_groups(api: Api) -> None:
    for number in range(10):
        await api.as_("member").post(PATH, {"server_group": {"name": f"g{number}", "policies": ["affinity"]}}, 200)
    await api.as_("member").post(PATH, {"server_group": {"name": "g10", "policies": ["affinity"]}}, 403)
    found = (await api.as_("member").get(f"{PATH}?limit=3&offset=2"))["server_groups"]
    assert [one["name"] for one in found] == ["g2", "g3", "g4"]
    limits = (await api.as_("member").get("/v2.1/limits"))["limits"]["absolute"]
    assert limits["totalServerGroupsUsed"] == 10


def test_servers_of_a_group_that_race_do_not_meet() -> None:
    """Three servers at once on two hosts: two are apart, the third finds no host. A delete leaves the group."""
    whole = Whole(1)

    async def main() -> tuple[list[Any], list[str], list[str]]:
        await whole.cloud.start_all()
        await whole.sleep(2)
        made = await whole.ask(
            "compute", "POST", "/v2.1/os-server-groups", {"server_group": {"name": "g", "policy": "anti-affinity"}}
        )
        group_id = made["server_group"]["id"]
        wanted = {
            "server": {"name": "s", "flavorRef": "1", "imageRef": whole.first.image_id, "min_count": 3,
                       "networks": [{"uuid": whole.first.network_id}]},
            "os:scheduler_hints": {"group": group_id},
        }  # fmt: skip
        assert await whole.ask("compute", "POST", "/v2.1/servers", wanted), whole.history
        await whole.settle()
        servers = list(whole_books.Seen(whole.cloud).live.values())
        before = (await whole.ask("compute", "GET", f"/v2.1/os-server-groups/{group_id}"))["server_group"]["members"]
        await whole.delete_server(servers[0].id)
        await whole.settle()
        after = (await whole.ask("compute", "GET", f"/v2.1/os-server-groups/{group_id}"))["server_group"]["members"]
        return servers, before, after

    servers, before, after = run(main(), 1)
    placed = Counter(server.host for server in servers if server.vm_state == "active")
    assert placed == {"node1": 1, "node2": 1}
    assert Counter(server.vm_state for server in servers) == {"active": 2, "error": 1}
    assert sorted(before) == sorted(server.id for server in servers)
    assert sorted(after) == sorted(server.id for server in servers[1:])
