"""A volume's own metadata."""

from __future__ import annotations

from typing import Any

import msgspec

from kilonova.base.faults import invalid, not_found
from kilonova.block_storage.core import BlockStorage
from kilonova.block_storage.names import checked_metadata
from kilonova.block_storage.volume import store
from kilonova.block_storage.volume.resource import seen, target
from kilonova.block_storage.volume.store import Volume
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.policy.personas import VOLUME_ADMIN_OR_MEMBER, VOLUME_ADMIN_OR_READER
from kilonova.policy.rules import Rule


class MetadataBody(msgspec.Struct, forbid_unknown_fields=True):
    """{"metadata": {…}}"""

    metadata: dict[str, Any]


class ItemBody(msgspec.Struct, forbid_unknown_fields=True):
    """{"meta": {key: value}}"""

    meta: dict[str, Any]


async def _volume(service: BlockStorage, request: Request[Any]) -> Volume:
    volume = await seen(service, request)
    request.enforce(target(volume))
    return volume


async def show(service: BlockStorage, request: Request[Any]) -> dict[str, Any]:
    return {"metadata": (await _volume(service, request)).metadata}


async def add(service: BlockStorage, request: Request[MetadataBody]) -> dict[str, Any]:
    volume, values = await _volume(service, request), checked_metadata(request.body.metadata)
    await service.db.write(store.put_metadata, volume.id, "volume", values)
    return {"metadata": (await service.db.read(store.get, volume.id)).metadata}


async def replace(service: BlockStorage, request: Request[MetadataBody]) -> dict[str, Any]:
    volume, values = await _volume(service, request), checked_metadata(request.body.metadata)
    await service.db.write(store.replace_metadata, volume.id, "volume", values)
    return {"metadata": values}


async def show_item(service: BlockStorage, request: Request[Any]) -> dict[str, Any]:
    volume, key = await _volume(service, request), request.path["key"]
    if key not in volume.metadata:
        raise not_found("Volume metadata key", key)
    return {"meta": {key: volume.metadata[key]}}


async def put_item(service: BlockStorage, request: Request[ItemBody]) -> dict[str, Any]:
    volume, values = await _volume(service, request), checked_metadata(request.body.meta)
    if len(values) != 1:
        raise invalid("Request body contains too many items.", hint='For example {"meta": {"key": "value"}}.')
    if request.path["key"] not in values:
        raise invalid("Request body and URI mismatch: the key in the path is not the key in the body.")
    await service.db.write(store.put_metadata, volume.id, "volume", values)
    return {"meta": values}


async def drop_item(service: BlockStorage, request: Request[Any]) -> None:
    volume = await _volume(service, request)
    await service.db.write(store.drop_metadata, volume.id, "volume", request.path["key"])


_ITEM = "/volumes/{volume_id}/metadata/{key}"
_ALL = "/volumes/{volume_id}/metadata"
_P = "volume:{}_volume_metadata"
RULES = (
    Rule(_P.format("get"), VOLUME_ADMIN_OR_READER, "Show a volume's metadata.", (("GET", _ALL), ("GET", _ITEM))),
    Rule(_P.format("create"), VOLUME_ADMIN_OR_MEMBER, "Add to a volume's metadata.", (("POST", _ALL),)),
    Rule(_P.format("update"), VOLUME_ADMIN_OR_MEMBER, "Change a volume's metadata.", (("PUT", _ALL), ("PUT", _ITEM))),
    Rule(_P.format("delete"), VOLUME_ADMIN_OR_MEMBER, "Drop a volume's metadata.", (("DELETE", _ITEM),)),
)
ROUTES = (
    Route(method="GET", path=_ALL, handler=show, policy=_P.format("get")),
    Route(method="POST", path=_ALL, handler=add, policy=_P.format("create"), body=MetadataBody),
    Route(method="PUT", path=_ALL, handler=replace, policy=_P.format("update"), body=MetadataBody),
    Route(method="GET", path=_ITEM, handler=show_item, policy=_P.format("get")),
    Route(method="PUT", path=_ITEM, handler=put_item, policy=_P.format("update"), body=ItemBody),
    Route(method="DELETE", path=_ITEM, handler=drop_item, policy=_P.format("delete")),
)
