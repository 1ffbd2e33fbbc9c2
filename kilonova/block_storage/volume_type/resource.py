"""Volume types: CRUD, extra specs, access of projects to private types."""

from __future__ import annotations

import ast
from typing import Annotated, Any

import msgspec

from kilonova.base.faults import invalid, not_found
from kilonova.block_storage.core import BlockStorage
from kilonova.block_storage.names import checked_flag, checked_pairs, checked_text
from kilonova.block_storage.volume import store as volume_store
from kilonova.block_storage.volume_type import store
from kilonova.block_storage.volume_type.store import Filters, VolumeType
from kilonova.http.listing import next_links, page_from
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.policy.personas import VOLUME_ADMIN_OR_READER
from kilonova.policy.rules import Rule

ADMIN = "context_is_admin"
# Extra specs that a user may see: what a type offers, not where it is.
PUBLIC_SPECS = ("multiattach", "RESKEY:availability_zones", "replication_enabled")


class TypeBody(msgspec.Struct):
    """A type in a create or update request."""

    name: Any = None
    description: Any = None
    is_public: Any = None
    extra_specs: dict[str, Any] | None = None
    os_access: Annotated[Any, "older name of is_public"] = msgspec.field(
        name="os-volume-type-access:is_public", default=None
    )


class SpecsBody(msgspec.Struct, forbid_unknown_fields=True):
    """{"extra_specs": {…}}"""

    extra_specs: dict[str, Any]


class ProjectBody(msgspec.Struct, forbid_unknown_fields=True):
    """{"project": id}"""

    project: str


def shown(request: Request[Any], one: VolumeType) -> dict[str, Any]:
    """A type as this caller sees it."""
    made: dict[str, Any] = {
        "id": one.id,
        "name": one.name,
        "description": one.description,
        "is_public": one.is_public,
        "os-volume-type-access:is_public": one.is_public,
    }
    if request.allows("volume_extension:access_types_extra_specs"):
        made["extra_specs"] = visible_specs(request, one)
    if request.allows("volume_extension:access_types_qos_specs_id"):
        made["qos_specs_id"] = None
    return made


def visible_specs(request: Request[Any], one: VolumeType) -> dict[str, str]:
    """Its extra specs, without those that only administrators may see."""
    if request.allows("volume_extension:types_extra_specs:read_sensitive"):
        return dict(one.extra_specs)
    return {key: value for key, value in one.extra_specs.items() if key in PUBLIC_SPECS}


async def seen(service: BlockStorage, request: Request[Any]) -> VolumeType:
    """The type of the path, if the caller's project may use it. `default` is the default type."""
    type_id = request.path["type_id"]
    project = "" if request.allows(ADMIN) else request.caller.project_id or "-"
    if type_id == "default":
        return await service.db.read(store.find, service.settings.default_volume_type, project)
    return await service.db.read(store.get, type_id, project)


async def show(service: BlockStorage, request: Request[Any]) -> dict[str, Any]:
    one = await seen(service, request)
    request.enforce()
    return {"volume_type": shown(request, one)}


async def listed(service: BlockStorage, request: Request[Any]) -> dict[str, Any]:
    request.enforce()
    admin = request.allows(ADMIN)
    filters = Filters("" if admin else request.caller.project_id or "-", is_public=True)
    if "is_public" in request.query and admin:
        none = (request.query.get("is_public") or "").lower() == "none"
        filters.is_public = None if none else request.query.boolean("is_public")
    elif not admin:
        filters.is_public = None  # public ones and those given to the project
    for name in ("name", "description"):
        if (text := request.query.get(name)) is not None:
            filters.equal[name] = text
    if (text := request.query.get("extra_specs")) is not None and request.version >= (3, 52):
        filters.extra_specs = _pairs(text)
    page = page_from(request.query, sortable=set(store.SORTS))
    found = await service.db.read(store.listed, filters, page)
    answer: dict[str, Any] = {"volume_types": [shown(request, one) for one in found]}
    return answer | next_links(request, "volume_type", found, page, lambda one: one.id)


def _pairs(text: str) -> dict[str, str]:
    try:
        return {str(key): str(value) for key, value in dict(ast.literal_eval(text)).items()}
    except (ValueError, SyntaxError, TypeError):
        raise invalid("Invalid input for query parameter extra_specs: it must be a dictionary.") from None


async def create(service: BlockStorage, request: Request[TypeBody]) -> dict[str, Any]:
    request.enforce()
    body = request.body
    name = checked_text(body.name, "name")
    if not name:
        raise invalid("Invalid input for field name: Volume type name can not be empty.")
    public = body.os_access if body.os_access is not None else body.is_public
    one = VolumeType(
        id=service.world.ids.uuid(),
        name=name,
        created_at=service.world.clock.now(),
        description=checked_text(body.description, "description"),
        is_public=True if public is None else checked_flag(public, "is_public"),
        extra_specs=checked_pairs(body.extra_specs or {}, "extra_specs"),
    )
    await service.db.write(store.insert, one)
    return {"volume_type": shown(request, one)}


async def update(service: BlockStorage, request: Request[TypeBody]) -> dict[str, Any]:
    one = await seen(service, request)
    request.enforce()
    body = request.body
    values: dict[str, Any] = {}
    if body.name is not None:
        values["name"] = checked_text(body.name, "name")
        if not values["name"]:
            raise invalid("Volume type name can not be empty.")
    if body.description is not None:
        values["description"] = checked_text(body.description, "description")
    public = body.is_public if body.is_public is not None else body.os_access
    if public is not None:
        values["is_public"] = checked_flag(public, "is_public")
    if not values:
        raise invalid("Specify volume type name, description, is_public or a combination thereof.")
    values["updated_at"] = service.world.clock.now()
    return {"volume_type": shown(request, await service.db.write(store.update, one.id, values))}


async def delete(service: BlockStorage, request: Request[Any]) -> None:
    one = await seen(service, request)
    request.enforce()
    if one.name == service.settings.default_volume_type:
        raise invalid("Invalid volume type: Default volume type can not be deleted.")

    def remove(connection: Any) -> None:
        if volume_store.uses_type(connection, one.id):
            raise invalid(f"Volume type {one.id} deletion is not allowed with volumes present with the type.")
        store.delete(connection, one.id)

    await service.db.write(remove)


# ── extra specs


async def show_specs(service: BlockStorage, request: Request[Any]) -> dict[str, Any]:
    one = await seen(service, request)
    request.enforce()
    return {"extra_specs": visible_specs(request, one)}


async def add_specs(service: BlockStorage, request: Request[SpecsBody]) -> dict[str, Any]:
    one = await seen(service, request)
    request.enforce()
    values = checked_pairs(request.body.extra_specs, "extra_specs")
    await _put_specs(service, one, one.extra_specs | values)
    return {"extra_specs": values}


async def _put_specs(service: BlockStorage, one: VolumeType, specs: dict[str, str]) -> None:
    values = {"extra_specs": specs, "updated_at": service.world.clock.now()}
    await service.db.write(store.update, one.id, values)


async def show_spec(service: BlockStorage, request: Request[Any]) -> dict[str, Any]:
    one, key = await seen(service, request), request.path["key"]
    request.enforce()
    specs = visible_specs(request, one)
    if key not in specs:
        raise not_found(f"Volume Type {one.id} extra spec", key)
    return {key: specs[key]}


async def put_spec(service: BlockStorage, request: Request[Any]) -> dict[str, Any]:
    one, key = await seen(service, request), request.path["key"]
    request.enforce()
    values = checked_pairs(await _json(request), "extra_specs")
    if list(values) != [key]:
        raise invalid("Request body and URI mismatch: the body must hold exactly the key of the path.")
    await _put_specs(service, one, one.extra_specs | values)
    return values


async def _json(request: Request[Any]) -> Any:
    from kilonova.http.schema import decode_json

    return decode_json(await request.read())


async def drop_spec(service: BlockStorage, request: Request[Any]) -> None:
    one, key = await seen(service, request), request.path["key"]
    request.enforce()
    if key not in one.extra_specs:
        raise not_found(f"Volume Type {one.id} extra spec", key)
    await _put_specs(service, one, {name: value for name, value in one.extra_specs.items() if name != key})


# ── access


async def show_access(service: BlockStorage, request: Request[Any]) -> dict[str, Any]:
    one = await seen(service, request)
    request.enforce()
    if one.is_public:
        raise not_found("Access list for volume type", one.id)
    projects = await service.db.read(store.access, one.id)
    return {"volume_type_access": [{"volume_type_id": one.id, "project_id": project} for project in projects]}


async def give(service: BlockStorage, request: Request[ProjectBody]) -> None:
    one = await seen(service, request)
    request.enforce()
    if one.is_public:
        raise invalid("Invalid volume type: Type access modification is not applicable to public volume type.")
    await service.db.write(store.give, one.id, request.body.project)


async def take(service: BlockStorage, request: Request[ProjectBody]) -> None:
    one = await seen(service, request)
    request.enforce()
    if one.is_public:
        raise invalid("Invalid volume type: Type access modification is not applicable to public volume type.")
    await service.db.write(store.take, one.id, request.body.project)


_ADMIN = "rule:admin_api"
_T, _S, _A = "volume_extension:type_{}", "volume_extension:types_extra_specs:{}", "volume_extension:volume_type_access"
_ONE, _SPECS = "/types/{type_id}", "/types/{type_id}/extra_specs"
RULES = (
    *(Rule(_T.format(verb), _ADMIN, f"To {verb} volume types.") for verb in ("create", "update", "delete")),
    *(Rule(_T.format(verb), VOLUME_ADMIN_OR_READER, "See volume types.") for verb in ("get", "get_all")),
    *(Rule(_S.format(verb), _ADMIN, f"To {verb} extra specs.") for verb in ("create", "update", "delete")),
    *(Rule(_S.format(verb), VOLUME_ADMIN_OR_READER, "See extra specs.") for verb in ("index", "show")),
    Rule(_S.format("read_sensitive"), _ADMIN, "See the extra specs that tell where volumes are."),
    Rule("volume_extension:access_types_extra_specs", VOLUME_ADMIN_OR_READER, "See a type with its extra specs."),
    Rule("volume_extension:access_types_qos_specs_id", _ADMIN, "See a type with its QoS specs."),
    Rule(f"{_A}:get_all_for_type", _ADMIN, "See which projects may use a private type."),
    Rule(f"{_A}:addProjectAccess", _ADMIN, "Let a project use a private type."),
    Rule(f"{_A}:removeProjectAccess", _ADMIN, "Take a private type from a project."),
)
ROUTES = (
    Route(method="GET", path="/types", handler=listed, policy=_T.format("get_all")),
    Route(
        method="POST", path="/types", handler=create, policy=_T.format("create"), body=TypeBody, envelope="volume_type"
    ),
    Route(method="GET", path=_ONE, handler=show, policy=_T.format("get")),
    Route(method="PUT", path=_ONE, handler=update, policy=_T.format("update"), body=TypeBody, envelope="volume_type"),
    Route(method="DELETE", path=_ONE, handler=delete, policy=_T.format("delete"), success=202),
    Route(method="GET", path=_SPECS, handler=show_specs, policy=_S.format("index")),
    Route(method="POST", path=_SPECS, handler=add_specs, policy=_S.format("create"), body=SpecsBody),
    Route(method="GET", path=_SPECS + "/{key}", handler=show_spec, policy=_S.format("show")),
    Route(method="PUT", path=_SPECS + "/{key}", handler=put_spec, policy=_S.format("update"), raw=True),
    Route(method="DELETE", path=_SPECS + "/{key}", handler=drop_spec, policy=_S.format("delete"), success=202),
    Route(method="GET", path=f"{_ONE}/os-volume-type-access", handler=show_access, policy=f"{_A}:get_all_for_type"),
    Route(
        method="POST", path=f"{_ONE}/action", handler=give, policy=f"{_A}:addProjectAccess", body=ProjectBody,
        action="addProjectAccess", success=202,
    ),
    Route(
        method="POST", path=f"{_ONE}/action", handler=take, policy=f"{_A}:removeProjectAccess", body=ProjectBody,
        action="removeProjectAccess", success=202,
    ),
)  # fmt: skip
