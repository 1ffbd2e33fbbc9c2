"""Metadata definitions through the door: what clients read, who may change it, and what every cloud has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from kilonova.image.core import ImageService
from kilonova.image.metadef.well_known import WELL_KNOWN, register_well_known
from tests.api.image.door import door, image_service
from tests.api.support import ADMIN_PROJECT, OTHER_PROJECT, PROJECT, ApiClient

SPACES = "/v2/metadefs/namespaces"
COUNT = {"title": "S", "type": "integer"}
DISK = {"title": "Disk Bus", "type": "string", "enum": ["virtio", "ide"]}


@pytest.fixture
async def service(tmp_path: Path) -> Any:
    async with image_service(tmp_path) as made:
        yield made


@pytest.fixture
def admin(service: ImageService) -> ApiClient:
    return door(service).as_("admin")


async def space(admin: ApiClient, name: str = "Acme", **fields: Any) -> Any:
    return await admin.post(SPACES, {"namespace": name, "visibility": "public", **fields}, 201)


async def test_a_namespace_comes_with_all_that_stands_in_it(admin: ApiClient) -> None:
    made = await space(
        admin,
        display_name="Acme's",
        description="Things",
        protected=True,
        properties={"bus": DISK},
        objects=[
            {"name": "Limits", "required": ["shares"], "properties": {"shares": {"title": "S", "type": "integer"}}}
        ],
        tags=[{"name": "fast"}],
        resource_type_associations=[{"name": "OS::Glance::Image", "prefix": "hw_"}],
    )
    assert (made["owner"], made["self"]) == (ADMIN_PROJECT, f"{SPACES}/Acme")
    shown = await admin.get(f"{SPACES}/Acme")
    assert shown["properties"] == {"bus": DISK}
    assert shown["objects"][0]["properties"]["shares"]["type"] == "integer"
    assert shown["tags"] == [{"name": "fast"}]
    assert shown["resource_type_associations"][0]["prefix"] == "hw_"
    on_images = await admin.get(f"{SPACES}/Acme?resource_type=OS::Glance::Image")
    assert set(on_images["properties"]) == {"hw_bus"}
    assert on_images["objects"][0]["required"] == ["hw_shares"]
    one = await admin.get(f"{SPACES}/Acme/properties/hw_bus?resource_type=OS::Glance::Image")
    assert one["name"] == "hw_bus"
    assert [t["name"] for t in (await admin.get("/v2/metadefs/resource_types"))["resource_types"]] == [
        "OS::Glance::Image"
    ]


async def test_protected_namespaces_stay_until_they_are_not(admin: ApiClient) -> None:
    await space(admin, protected=True, properties={"bus": DISK})
    assert "protected" in (await admin.delete(f"{SPACES}/Acme", 403))["message"]
    body = {"namespace": "Acme2", "protected": False, "description": "new"}
    changed = await admin.put(f"{SPACES}/Acme", body)
    assert (changed["namespace"], changed["protected"], changed["visibility"]) == ("Acme2", False, "public")
    await admin.get(f"{SPACES}/Acme", 404)
    assert (await admin.get(f"{SPACES}/Acme2/properties/bus"))["enum"] == ["virtio", "ide"]
    await admin.delete(f"{SPACES}/Acme2")
    await admin.get(f"{SPACES}/Acme2/properties", 404)
    await space(admin, "Acme2")  # nothing of the old one is in the new one
    assert (await admin.get(f"{SPACES}/Acme2/properties"))["properties"] == {}


async def test_objects_properties_and_tags_are_kept_one_by_one(admin: ApiClient) -> None:
    await space(admin)
    made = await admin.post(
        f"{SPACES}/Acme/objects", {"name": "O", "properties": {"p": {"title": "P", "type": "string"}}}, 201
    )
    assert (made["required"], made["schema"]) == ([], "/v2/schemas/metadefs/object")
    await admin.post(f"{SPACES}/Acme/objects", {"name": "O"}, 409)
    renamed = await admin.put(f"{SPACES}/Acme/objects/O", {"name": "O2", "description": "d"})
    assert (renamed["name"], renamed["description"], list(renamed["properties"])) == ("O2", "d", ["p"])
    assert [o["name"] for o in (await admin.get(f"{SPACES}/Acme/objects"))["objects"]] == ["O2"]
    await admin.delete(f"{SPACES}/Acme/objects/O", 404)
    await admin.delete(f"{SPACES}/Acme/objects/O2")

    await admin.post(f"{SPACES}/Acme/properties", {"name": "bus", **DISK}, 201)
    changed = await admin.put(
        f"{SPACES}/Acme/properties/bus", {"name": "bus", "title": "T", "type": "integer", "minLength": 1}
    )
    assert changed == {"name": "bus", "title": "T", "type": "integer", "minLength": 1}
    await admin.delete(f"{SPACES}/Acme/properties")
    assert (await admin.get(f"{SPACES}/Acme/properties"))["properties"] == {}

    await admin.post(f"{SPACES}/Acme/tags", {"tags": [{"name": "a"}, {"name": "b"}]}, 201)
    await admin.post(f"{SPACES}/Acme/tags", {"tags": [{"name": "c"}]}, 201)
    await admin.as_("admin", **{"x-openstack-append": "true"}).post(
        f"{SPACES}/Acme/tags", {"tags": [{"name": "d"}]}, 201
    )
    await admin.post(f"{SPACES}/Acme/tags/e", None, 201)
    assert (await admin.put(f"{SPACES}/Acme/tags/e", {"name": "f"}))["name"] == "f"
    await admin.put(f"{SPACES}/Acme/tags/f", {"name": "c"}, 409)
    names = {t["name"] for t in (await admin.get(f"{SPACES}/Acme/tags"))["tags"]}
    assert names == {"c", "d", "f"}
    await admin.delete(f"{SPACES}/Acme/tags/f")
    await admin.get(f"{SPACES}/Acme/tags/f", 404)
    await admin.delete(f"{SPACES}/Acme/tags")
    assert (await admin.get(f"{SPACES}/Acme/tags"))["tags"] == []


async def test_resource_types_are_associated_once(admin: ApiClient) -> None:
    await space(admin)
    path = f"{SPACES}/Acme/resource_types"
    await admin.post(path, {"name": "My::Thing", "prefix": "my_"}, 201)
    await admin.post(path, {"name": "My::Thing"}, 409)
    assert (await admin.get(path))["resource_type_associations"][0]["prefix"] == "my_"
    assert [n["namespace"] for n in (await admin.get(f"{SPACES}?resource_types=My::Thing"))["namespaces"]] == ["Acme"]
    assert (await admin.get(f"{SPACES}?resource_types=Other"))["namespaces"] == []
    await admin.delete(f"{path}/My::Thing")
    await admin.delete(f"{path}/My::Thing", 404)


async def test_only_admins_write_and_private_ones_are_their_owners(admin: ApiClient) -> None:
    await space(admin, "Public")
    await space(admin, "Mine", visibility="private", owner=PROJECT, properties={"bus": DISK})
    await space(admin, "Theirs", visibility="private", owner=OTHER_PROJECT)
    for persona in ("member", "reader"):
        api = admin.as_(persona)
        assert {n["namespace"] for n in (await api.get(SPACES))["namespaces"]} == {"Public", "Mine"}
        await api.get(f"{SPACES}/Theirs", 404)
        await api.get(f"{SPACES}/Theirs/properties", 404)
        await api.post(SPACES, {"namespace": "X"}, 403)
        await api.delete(f"{SPACES}/Mine", 403)
        await api.delete(f"{SPACES}/Theirs", 404)
        await api.post(f"{SPACES}/Mine/tags/x", None, 403)
        await api.post(f"{SPACES}/Theirs/objects", {"name": "x"}, 404)
        await api.put(f"{SPACES}/Mine/properties/bus", {"name": "bus", **DISK}, 403)
        assert list((await api.get(f"{SPACES}/Mine/properties"))["properties"]) == ["bus"]
    await admin.as_("").get(SPACES, 401)


async def test_lists_page(admin: ApiClient) -> None:
    for name in "abc":
        await space(admin, name)
    first = await admin.get(f"{SPACES}?sort_key=namespace&sort_dir=asc&limit=2")
    assert [n["namespace"] for n in first["namespaces"]] == ["a", "b"]
    second = await admin.get(first["next"])
    assert [n["namespace"] for n in second["namespaces"]] == ["c"] and "next" not in second
    await admin.get(f"{SPACES}?marker=gone", 400)
    await admin.get(f"{SPACES}?visibility=odd", 400)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"namespace": "x" * 81}, 400),
        ({"namespace": "x", "visibility": "shared"}, 400),
        ({"namespace": "x", "colour": "red"}, 400),
        ({"namespace": "x", "created_at": "2020-01-01"}, 403),
        ({"namespace": "x", "properties": {"p": {"type": "string"}}}, 400),
        ({"namespace": "x", "properties": {"p": {"type": "strange", "title": "t"}}}, 400),
        ({"namespace": "x", "objects": [{"name": "o", "self": "/x"}]}, 403),
    ],
)
async def test_bad_namespaces_are_refused(admin: ApiClient, body: Any, status: int) -> None:
    await admin.post(SPACES, body, status)
    assert (await admin.get(SPACES))["namespaces"] == []


async def test_every_cloud_has_the_well_known_sets_once(service: ImageService, admin: ApiClient) -> None:
    assert await register_well_known(service) == len(WELL_KNOWN) >= 25
    cpu = await admin.as_("reader").get(f"{SPACES}/OS::Compute::VirtCPUTopology?resource_type=OS::Nova::Flavor")
    assert cpu["properties"]["hw:cpu_max_threads"]["type"] == "integer"
    databases = await admin.as_("reader").get(f"{SPACES}/OS::Software::DBMS/objects/PostgreSQL")
    assert databases["properties"]["sw_database_postgresql_listen_port"]["type"] == "integer"
    await admin.put(f"{SPACES}/OS::Compute::Watchdog", {"namespace": "OS::Compute::Watchdog", "protected": False})
    await admin.delete(f"{SPACES}/OS::Compute::Watchdog")
    assert await register_well_known(service) == 0  # what an operator dropped stays dropped
    await admin.get(f"{SPACES}/OS::Compute::Watchdog", 404)


async def test_schemas_describe_what_is_answered(admin: ApiClient) -> None:
    await space(admin, properties={"bus": DISK}, tags=[{"name": "t"}], objects=[{"name": "o"}])
    await admin.post(f"{SPACES}/Acme/resource_types", {"name": "My::Thing"}, 201)
    answers = {
        "metadefs/namespace": f"{SPACES}/Acme",
        "metadefs/namespaces": SPACES,
        "metadefs/object": f"{SPACES}/Acme/objects/o",
        "metadefs/objects": f"{SPACES}/Acme/objects",
        "metadefs/property": f"{SPACES}/Acme/properties/bus",
        "metadefs/tag": f"{SPACES}/Acme/tags/t",
        "metadefs/tags": f"{SPACES}/Acme/tags",
    }
    for name, path in answers.items():
        schema = await admin.get(f"/v2/schemas/{name}")
        problems = list(jsonschema_rs.validator_for(schema).iter_errors(await admin.get(path)))
        assert problems == [], (name, [str(p) for p in problems])
    image = await admin.post("/v2/images", {"name": "i"}, 201)
    schema = await admin.get("/v2/schemas/image")
    assert schema["name"] == "image" and msgspec.json.encode(schema)
    missing = set(image) - set(schema["properties"])
    assert missing == set()
