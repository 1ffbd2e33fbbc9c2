"""Volumes, types, quotas through the door: what clients see, who may do what, and what is refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from kilonova.sim.loop import run
from tests.api.support import ADMIN_PROJECT, OTHER_PROJECT, PROJECT
from tests.laws.storage import IMAGE, Storage

BASE = {
    "attachments", "availability_zone", "bootable", "consistencygroup_id", "created_at", "description", "encrypted",
    "id", "links", "metadata", "migration_status", "multiattach", "name", "replication_status", "size", "snapshot_id",
    "source_volid", "status", "updated_at", "user_id", "volume_type",
}  # fmt: skip
NEWER = {"3.13": {"group_id"}, "3.48": {"service_uuid", "shared_targets"}, "3.63": {"volume_type_id"},
         "3.65": {"consumes_quota"}}  # fmt: skip
ADMINS = {"os-vol-host-attr:host", "os-vol-mig-status-attr:migstat", "os-vol-mig-status-attr:name_id"}


def cloud(work: Callable[[Storage], Awaitable[Any]]) -> Any:
    """What `work` returns on a running block storage."""
    storage = Storage(0)

    async def main() -> Any:
        await storage.start()
        return await work(storage)

    return run(main(), 0)


def test_fields_exist_from_their_microversion_on() -> None:
    async def work(s: Storage) -> None:
        volume_id = await s.available()
        expected = BASE | {"os-vol-tenant-attr:tenant_id"}
        for version in ("3.0", "3.13", "3.48", "3.63", "3.65", "3.71"):
            expected |= NEWER.get(version, set())
            assert set((await s.api("reader", version).get(f"/v3/volumes/{volume_id}"))["volume"]) == expected
        admins = set((await s.api("admin").get(f"/v3/volumes/{volume_id}"))["volume"])
        assert admins == expected | ADMINS | {"provider_id", "cluster_name"}
        made = await s.api(version="3.0").post("/v3/volumes", {"volume": {"size": 1}}, 202)
        assert set(made["volume"]) == BASE
        assert made["volume"]["volume_type"] == "__DEFAULT__"

    cloud(work)


def test_both_forms_of_a_path_and_a_foreign_project_in_it() -> None:
    async def work(s: Storage) -> None:
        volume_id = await s.available()
        for path in ("/v3/volumes", f"/v3/{PROJECT}/volumes"):
            shown = (await s.api().get(f"{path}/{volume_id}"))["volume"]
            assert shown["links"][0]["href"] == f"http://localhost{path}/{volume_id}"
            assert [one["id"] for one in (await s.api().get(f"{path}/detail"))["volumes"]] == [volume_id]
        refused = await s.api().get(f"/v3/{OTHER_PROJECT}/volumes", 400)
        assert refused["badRequest"]["message"].startswith("Malformed request url")

    cloud(work)


def test_who_may_do_what() -> None:
    async def work(s: Storage) -> None:
        volume_id = await s.available()
        body = {"volume": {"name": "mine"}}
        for token, get, put, delete in (("reader", 200, 403, 403), ("other", 404, 404, 404), ("member", 200, 200, 202)):
            await s.api(token).get(f"/v3/volumes/{volume_id}", get)
            await s.api(token).put(f"/v3/volumes/{volume_id}", body, put)
            await s.api(token).delete(f"/v3/volumes/{volume_id}", delete)
        await s.api("reader").post("/v3/volumes", {"volume": {"size": 1}}, 403)
        await s.api("").get("/v3/volumes", 401)
        for path in ("/v3/os-services", "/v3/scheduler-stats/get_pools"):
            await s.api().get(path, 403)
        await s.api().post("/v3/types", {"volume_type": {"name": "fast"}}, 403)
        await s.api().put(f"/v3/os-quota-sets/{PROJECT}", {"quota_set": {"volumes": 99}}, 403)

    cloud(work)


def test_what_is_refused_writes_nothing() -> None:
    async def work(s: Storage) -> None:
        for wrong in (
            {}, {"size": 0}, {"size": -1}, {"size": "two"}, {"size": 1.5}, {"size": 1, "name": "x" * 256},
            {"size": 1, "metadata": {"": "v"}}, {"size": 1, "metadata": {"k": "v" * 256}}, {"size": 1, "bogus": 1},
            {"size": 1, "availability_zone": "mars"}, {"size": 2, "imageRef": IMAGE.id},
            {"size": 1, "imageRef": "0a1b2c3d-0000-4000-8000-00000000dead"}, {"size": 1, "multiattach": True},
        ):  # fmt: skip
            await s.api().post("/v3/volumes", {"volume": wrong}, 400)
        for gone in ({"snapshot_id": PROJECT}, {"source_volid": PROJECT}, {"volume_type": "none"}):
            await s.api().post("/v3/volumes", {"volume": {"size": 1, **gone}}, 404)
        too_much = await s.api().post("/v3/volumes", {"volume": {"size": 1001}}, 413)
        assert too_much["overLimit"]["message"].startswith("Quota exceeded for gigabytes")
        await s.api(version="3.12").post("/v3/volumes", {"volume": {"size": 1, "group_id": None}}, 400)
        await s.api(version="3.99").get("/v3/volumes", 406)
        assert (await s.api().get("/v3/volumes"))["volumes"] == []

    cloud(work)


def test_lists_filter_sort_and_page() -> None:
    async def work(s: Storage) -> None:
        ids = []
        for number, name in enumerate(("b", "a", "c")):
            ids.append(await s.create(name=name, size=number + 1, metadata={"n": str(number), "all": "yes"}))
        await s.create("other", name="foreign")
        await s.settle()

        async def names(query: str, token: str = "member", version: str = "3.71") -> list[str]:
            found = await s.api(token, version).get(f"/v3/volumes?{query}")
            return [one["name"] for one in found["volumes"]]

        assert await names("sort=name:asc") == ["a", "b", "c"]
        assert await names("sort_key=size&sort_dir=desc") == ["c", "a", "b"]
        assert await names("name=a") == ["a"]
        assert await names("name~=a") == ["a"]
        assert await names("metadata={'n': '2', 'all': 'yes'}") == ["c"]
        assert await names("bootable=true") == []
        assert await names("size=2") == ["a"]
        assert await names("status=error") == []
        assert await names("created_at=gt:2030-01-01T00:00:00") == []
        assert sorted(await names("all_tenants=1", "admin")) == ["a", "b", "c", "foreign"]
        assert sorted(await names("all_tenants=1")) == ["a", "b", "c"]
        assert sorted(await names("bogus=1", version="3.30")) == ["a", "b", "c"]
        await s.api().get("/v3/volumes?bogus=1", 400)
        await s.api().get("/v3/volumes?limit=-1", 400)
        await s.api().get("/v3/volumes?marker=none", 400)
        page = await s.api().get("/v3/volumes/detail?limit=2&sort=name:asc&with_count=true")
        assert page["count"] == 3
        rest = await s.api().get(page["volumes_links"][0]["href"].removeprefix("http://localhost"))
        assert [one["name"] for one in page["volumes"] + rest["volumes"]] == ["a", "b", "c"]
        summed = (await s.api().get("/v3/volumes/summary"))["volume-summary"]
        assert (summed["total_count"], summed["total_size"], summed["metadata"]["all"]) == (3, 6, ["yes"])

    cloud(work)


def test_metadata_of_a_volume() -> None:
    async def work(s: Storage) -> None:
        path = f"/v3/volumes/{await s.available(metadata={'a': '1'})}/metadata"
        assert await s.api().post(path, {"metadata": {"b": "2"}}, 200) == {"metadata": {"a": "1", "b": "2"}}
        assert await s.api().put(f"{path}/a", {"meta": {"a": "3"}}) == {"meta": {"a": "3"}}
        await s.api().put(f"{path}/a", {"meta": {"x": "3"}}, 400)
        await s.api().delete(f"{path}/b", 200)
        await s.api().delete(f"{path}/b", 404)
        assert await s.api("reader").get(path) == {"metadata": {"a": "3"}}
        assert await s.api().put(path, {"metadata": {"only": "me"}}) == {"metadata": {"only": "me"}}

    cloud(work)


def test_a_volume_from_an_image_and_one_from_that_volume() -> None:
    async def work(s: Storage) -> None:
        first = await s.available(imageRef=IMAGE.id)
        shown = (await s.api().get(f"/v3/volumes/{first}"))["volume"]
        assert shown["bootable"] == "true"
        assert shown["volume_image_metadata"]["image_id"] == IMAGE.id
        second = await s.available(source_volid=first, size=None)
        shown = (await s.api().get(f"/v3/volumes/{second}"))["volume"]
        assert (shown["size"], shown["source_volid"], shown["bootable"]) == (4, first, "true")
        await s.api().post("/v3/volumes", {"volume": {"size": 3, "source_volid": first}}, 400)

    cloud(work)


def test_extend_counts_and_refuses() -> None:
    async def work(s: Storage) -> None:
        path = f"/v3/volumes/{await s.available()}/action"
        for wrong, status in ((4, 400), ("x", 400), (1001, 413)):
            await s.api().post(path, {"os-extend": {"new_size": wrong}}, status)
        await s.api().post(path, {"os-extend": {"new_size": 10}}, 202)
        await s.settle()
        usage = (await s.api().get(f"/v3/os-quota-sets/{PROJECT}?usage=true"))["quota_set"]
        assert usage["gigabytes"] == {"limit": 1000, "in_use": 10, "reserved": 0}
        assert usage["gigabytes___DEFAULT__"]["in_use"] == 10
        await s.api().post(path, {"os-explode": {}}, 400)

    cloud(work)


def test_types_are_public_private_and_choose_the_backend() -> None:
    async def work(s: Storage) -> None:
        admin = s.api("admin")
        s.add_pool("node2@ssd", 50)
        await s.start_agent("node2@ssd")
        await s.world.clock.sleep(3)
        specs = {"volume_backend_name": "ssd", "multiattach": "<is> True"}
        made = (await admin.post("/v3/types", {"volume_type": {"name": "fast", "extra_specs": specs}}, 200))[
            "volume_type"
        ]
        await admin.post("/v3/types", {"volume_type": {"name": "fast"}}, 409)
        assert (await s.api().get(f"/v3/types/{made['id']}"))["volume_type"]["extra_specs"] == {
            "multiattach": "<is> True"
        }
        volume_id = await s.available(volume_type="fast")
        assert s.pools["node2@ssd"].sizes == {volume_id: 4}
        assert (await s.api().get(f"/v3/volumes/{volume_id}"))["volume"]["multiattach"] is True
        await admin.delete(f"/v3/types/{made['id']}", 400)
        secret = {"name": "secret", "os-volume-type-access:is_public": False}
        hidden = (await admin.post("/v3/types", {"volume_type": secret}, 200))["volume_type"]["id"]
        await s.api().get(f"/v3/types/{hidden}", 404)
        await admin.post(f"/v3/types/{hidden}/action", {"addProjectAccess": {"project": PROJECT}}, 202)
        assert (await s.api().get(f"/v3/types/{hidden}"))["volume_type"]["name"] == "secret"
        await s.api("other").get(f"/v3/types/{hidden}", 404)
        assert (await s.api().get("/v3/types/default"))["volume_type"]["name"] == "__DEFAULT__"
        await admin.delete(f"/v3/types/{hidden}", 202)
        nowhere = {"name": "nowhere", "extra_specs": {"volume_backend_name": "tape"}}
        await admin.post("/v3/types", {"volume_type": nowhere}, 200)
        lost = await s.create(volume_type="nowhere")
        await s.settle()
        assert await s.status(lost) == "error"

    cloud(work)


def test_quota_sets_and_limits() -> None:
    async def work(s: Storage) -> None:
        path = f"/v3/{ADMIN_PROJECT}/os-quota-sets/{PROJECT}"
        assert (await s.api("admin").put(path, {"quota_set": {"volumes": 1}}))["quota_set"]["volumes"] == 1
        await s.api("admin").put(path, {"quota_set": {"bogus": 1}}, 400)
        await s.api("admin").put(path, {"quota_set": {"volumes": -2}}, 400)
        await s.create()
        await s.api().post("/v3/volumes", {"volume": {"size": 1}}, 413)
        absolute = (await s.api().get("/v3/limits"))["limits"]["absolute"]
        assert (absolute["maxTotalVolumes"], absolute["totalVolumesUsed"], absolute["totalGigabytesUsed"]) == (1, 1, 4)
        assert (await s.api("admin").get(f"{path}/defaults"))["quota_set"]["volumes"] == 10
        await s.api("admin").delete(path, 200)
        await s.create()
        await s.api("other").get(f"/v3/os-quota-sets/{PROJECT}", 403)

    cloud(work)


def test_services_die_and_the_scheduler_notices() -> None:
    async def work(s: Storage) -> None:
        async def states() -> dict[str, str]:
            found = (await s.api("admin").get("/v3/os-services"))["services"]
            return {one["binary"]: one["state"] for one in found}

        assert await states() == {"cinder-scheduler": "up", "cinder-volume": "up"}
        reason = {"host": "node1@files", "binary": "cinder-volume", "disabled_reason": "new disks"}
        await s.api("admin").put("/v3/os-services/disable-log-reason", reason)
        lost = await s.create()
        await s.settle()
        assert await s.status(lost) == "error"
        await s.api("admin").put("/v3/os-services/enable", {"host": "node1@files", "binary": "cinder-volume"})
        await s.available()
        s.crash_agent()
        await s.world.clock.sleep(90)
        assert await states() == {"cinder-scheduler": "up", "cinder-volume": "down"}
        zones = (await s.api().get("/v3/os-availability-zone"))["availabilityZoneInfo"]
        assert [one["zoneName"] for one in zones] == ["nova"]

    cloud(work)


def test_discovery_needs_no_token() -> None:
    async def work(s: Storage) -> None:
        found = (await s.api("").get("/", 300))["versions"][0]
        assert (found["id"], found["min_version"], found["version"]) == ("v3.0", "3.0", "3.71")
        assert (await s.api("").get("/v3/"))["versions"][0]["links"][1]["href"] == "http://localhost/v3/"

    cloud(work)
