"""Snapshots through the door: what clients see, who may do what, what is refused, and volumes made from them."""

from __future__ import annotations

from typing import Any

from tests.api.block_storage.test_volumes_api import cloud
from tests.api.support import OTHER_PROJECT, PROJECT
from tests.laws.storage import IMAGE, Storage

BASE = {"id", "name", "description", "volume_id", "status", "size", "created_at", "updated_at", "metadata"}
EXTENDED = {"os-extended-snapshot-attributes:progress", "os-extended-snapshot-attributes:project_id"}
NOTHING = "0a1b2c3d-0000-4000-8000-00000000dead"


async def snapshot(s: Storage, volume_id: str, token: str = "member", **fields: Any) -> str:
    """The id of a snapshot that is ready."""
    made = await s.api(token).post("/v3/snapshots", {"snapshot": {"volume_id": volume_id, **fields}}, 202)
    await s.settle()
    shown = (await s.api("admin").get(f"/v3/snapshots/{made['snapshot']['id']}"))["snapshot"]
    assert (made["snapshot"]["status"], shown["status"]) == ("creating", "available")
    return str(shown["id"])


def test_fields_exist_from_their_microversion_on() -> None:
    async def work(s: Storage) -> None:
        one = await snapshot(s, await s.available(), name="s", description="d", metadata={"k": "v"})
        expected = BASE | EXTENDED
        for version, more in (("3.0", ()), ("3.14", ("group_snapshot_id",)), ("3.41", ("user_id",)),
                              ("3.65", ("consumes_quota",))):  # fmt: skip
            expected |= set(more)
            shown = (await s.api("reader", version).get(f"/v3/snapshots/{one}"))["snapshot"]
            assert set(shown) == expected
        assert (shown["name"], shown["size"], shown["metadata"]) == ("s", 4, {"k": "v"})
        assert shown["os-extended-snapshot-attributes:progress"] == "100%"
        listed = (await s.api().get(f"/v3/{PROJECT}/snapshots"))["snapshots"]
        assert [set(item) for item in listed] == [BASE]

    cloud(work)


def test_a_volume_from_a_snapshot() -> None:
    async def work(s: Storage) -> None:
        source = await s.available(imageRef=IMAGE.id)
        one = await snapshot(s, source)
        made = await s.api().post("/v3/volumes", {"volume": {"snapshot_id": one}}, 202)
        assert (made["volume"]["size"], made["volume"]["snapshot_id"]) == (4, one)
        await s.settle()
        volume_id = made["volume"]["id"]
        shown = (await s.api().get(f"/v3/volumes/{volume_id}"))["volume"]
        assert (shown["status"], shown["bootable"]) == ("available", "true")
        assert shown["volume_image_metadata"]["image_id"] == IMAGE.id
        assert s.pools["node1@files"].sources[volume_id].snapshot_id == one
        await s.available(snapshot_id=one, size=6)
        await s.api().post("/v3/volumes", {"volume": {"snapshot_id": one, "size": 3}}, 400)
        await s.api().post("/v3/volumes", {"volume": {"snapshot_id": one, "imageRef": IMAGE.id, "size": 4}}, 400)
        await s.api("other").post("/v3/volumes", {"volume": {"snapshot_id": one}}, 404)
        await s.api().delete(f"/v3/snapshots/{one}", 202)
        await s.settle()
        await s.api().get(f"/v3/snapshots/{one}", 404)
        s.check_books()

    cloud(work)


def test_a_volume_with_snapshots_stays_unless_all_go() -> None:
    async def work(s: Storage) -> None:
        volume_id = await s.available()
        await snapshot(s, volume_id)
        await snapshot(s, volume_id)
        refused = await s.api().delete(f"/v3/volumes/{volume_id}", 400)
        assert "have snapshots" in refused["badRequest"]["message"]
        await s.api("admin").post(f"/v3/volumes/{volume_id}/action", {"os-force_delete": {}}, 400)
        await s.api().delete(f"/v3/volumes/{volume_id}?cascade=true", 202)
        going = (await s.api().get("/v3/snapshots"))["snapshots"]
        assert {one["status"] for one in going} == {"deleting"}
        await s.api().post("/v3/volumes", {"volume": {"snapshot_id": going[0]["id"]}}, 400)
        await s.api().delete(f"/v3/snapshots/{going[0]['id']}", 400)
        await s.settle()
        assert s.statuses() == {}
        assert (await s.api().get("/v3/snapshots"))["snapshots"] == []
        s.check_books()

    cloud(work)


def test_volumes_in_use() -> None:
    async def work(s: Storage) -> None:
        volume_id = await s.available()
        await s.api().post(f"/v3/volumes/{volume_id}/action",
                           {"os-attach": {"instance_uuid": NOTHING, "mountpoint": "/dev/vdb"}}, 202)  # fmt: skip
        body = {"snapshot": {"volume_id": volume_id}}
        refused = await s.api(version="3.65").post("/v3/snapshots", body, 400)
        assert "status must be available, but current status is: in-use" in refused["badRequest"]["message"]
        refused = await s.api().post("/v3/snapshots", body, 400)
        assert "consistent" in refused["badRequest"]["message"]
        s.pools["node1@files"].online_snapshots = True
        await s.world.clock.sleep(15)
        await s.api(version="3.65").post("/v3/snapshots", {"snapshot": body["snapshot"] | {"force": True}}, 202)
        await s.api().post("/v3/snapshots", {"snapshot": body["snapshot"] | {"force": False}}, 400)
        await snapshot(s, volume_id)

    cloud(work)


def test_who_may_do_what_and_what_is_refused() -> None:
    async def work(s: Storage) -> None:
        volume_id = await s.available()
        one = await snapshot(s, volume_id)
        path, body = f"/v3/snapshots/{one}", {"snapshot": {"volume_id": volume_id}}
        for token, create, get, put, delete in (("reader", 403, 200, 403, 403), ("other", 404, 404, 404, 404)):
            await s.api(token).post("/v3/snapshots", body, create)
            await s.api(token).get(path, get)
            await s.api(token).put(path, {"snapshot": {"name": "x"}}, put)
            await s.api(token).delete(path, delete)
        await s.api("").get("/v3/snapshots", 401)
        for action in ({"os-reset_status": {"status": "error"}}, {"os-force_delete": {}}):
            await s.api().post(f"{path}/action", action, 403)
        for wrong in ({}, {"volume_id": volume_id, "bogus": 1}, {"volume_id": volume_id, "name": "x" * 256},
                      {"volume_id": volume_id, "metadata": {"": "v"}}):  # fmt: skip
            await s.api().post("/v3/snapshots", {"snapshot": wrong}, 400)
        await s.api().post("/v3/snapshots", {"snapshot": {"volume_id": NOTHING}}, 404)
        assert (await s.api().put(path, {"snapshot": {"name": "new"}}))["snapshot"]["name"] == "new"
        await s.api().put(path, {"snapshot": {}}, 400)
        await s.api("admin").post(f"{path}/action", {"os-reset_status": {"status": "bogus"}}, 400)
        await s.api("admin").post(f"{path}/action", {"os-reset_status": {"status": "deleting"}}, 202)
        await s.api().delete(path, 400)
        await s.api("admin").post(f"{path}/action", {"os-force_delete": {}}, 202)
        await s.settle()
        s.check_books()

    cloud(work)


def test_metadata_of_a_snapshot() -> None:
    async def work(s: Storage) -> None:
        path = f"/v3/snapshots/{await snapshot(s, await s.available(), metadata={'a': '1'})}/metadata"
        assert await s.api().post(path, {"metadata": {"b": "2"}}, 200) == {"metadata": {"a": "1", "b": "2"}}
        assert await s.api().put(path, {"metadata": {"c": "3"}}) == {"metadata": {"c": "3"}}
        assert await s.api().put(f"{path}/c", {"meta": {"c": "4"}}) == {"meta": {"c": "4"}}
        assert await s.api("reader").get(f"{path}/c") == {"meta": {"c": "4"}}
        await s.api().put(f"{path}/c", {"meta": {"d": "4"}}, 400)
        await s.api("reader").post(path, {"metadata": {"e": "5"}}, 403)
        await s.api().delete(f"{path}/c", 200)
        await s.api().get(f"{path}/c", 404)
        assert await s.api().get(path) == {"metadata": {}}

    cloud(work)


def test_lists_filter_and_page() -> None:
    async def work(s: Storage) -> None:
        first, second = await s.available(), await s.available()
        for number, name in enumerate("bac"):
            await snapshot(s, first if name == "a" else second, name=name, metadata={"n": str(number)})

        async def names(query: str, token: str = "member", version: str = "3.71") -> list[str]:
            return [one["name"] for one in (await s.api(token, version).get(f"/v3/snapshots?{query}"))["snapshots"]]

        assert await names("sort=name:asc") == ["a", "b", "c"]
        assert await names(f"volume_id={first}") == ["a"]
        assert await names("metadata={'n': '2'}") == ["c"]
        assert await names("name~=b") == ["b"]
        assert await names("status=error") == []
        assert await names("availability_zone=mars") == []
        assert sorted(await names("availability_zone=nova")) == ["a", "b", "c"]
        assert sorted(await names("all_tenants=1&project_id=" + PROJECT, "admin")) == ["a", "b", "c"]
        assert await names("all_tenants=1&project_id=" + OTHER_PROJECT, "admin") == []
        await s.api().get("/v3/snapshots?bogus=1", 400)
        page = await s.api().get("/v3/snapshots/detail?limit=2&sort=name:asc&with_count=true")
        assert page["count"] == 3
        rest = await s.api().get(page["snapshots_links"][0]["href"].removeprefix("http://localhost"))
        assert [one["name"] for one in page["snapshots"] + rest["snapshots"]] == ["a", "b", "c"]

    cloud(work)


def test_snapshots_count_in_quotas() -> None:
    async def work(s: Storage) -> None:
        volume_id = await s.available()
        await snapshot(s, volume_id)
        limits = (await s.api().get("/v3/limits"))["limits"]["absolute"]
        assert (limits["totalSnapshotsUsed"], limits["totalGigabytesUsed"]) == (1, 8)
        body = {"snapshot": {"volume_id": volume_id}}
        for quota in (
            {"snapshots": 1},
            {"snapshots": 10, "gigabytes": 11},
            {"gigabytes": -1, "snapshots___DEFAULT__": 1},
        ):
            await s.api("admin").put(f"/v3/os-quota-sets/{PROJECT}", {"quota_set": quota})
            refused = await s.api().post("/v3/snapshots", body, 413)
            assert refused["overLimit"]["message"].startswith("Quota exceeded for ")
        assert len((await s.api().get("/v3/snapshots"))["snapshots"]) == 1

    cloud(work)
