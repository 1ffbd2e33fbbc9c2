"""A snapshot's own metadata."""

from __future__ import annotations

from typing import Any

from kilonova.base.faults import invalid, not_found
from kilonova.block_storage.core import BlockStorage
from kilonova.block_storage.names import checked_metadata
from kilonova.block_storage.snapshot import store
from kilonova.block_storage.snapshot.resource import owned
from kilonova.block_storage.volume.metadata import ItemBody, MetadataBody
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.policy.personas import VOLUME_ADMIN_OR_MEMBER, VOLUME_ADMIN_OR_READER
from kilonova.policy.rules import Rule


async def show(service: BlockStorage, request: Request[Any]) -> dict[str, Any]:
    return {"metadata": (await owned(service, request)).metadata}


async def add(service: BlockStorage, request: Request[MetadataBody]) -> dict[str, Any]:
    snapshot, values = await owned(service, request), checked_metadata(request.body.metadata)
    await service.db.write(store.put_metadata, snapshot.id, values)
    return {"metadata": (await service.db.read(store.get, snapshot.id)).metadata}


async def replace(service: BlockStorage, request: Request[MetadataBody]) -> dict[str, Any]:
    snapshot, values = await owned(service, request), checked_metadata(request.body.metadata)
    await service.db.write(store.replace_metadata, snapshot.id, values)
    return {"metadata": values}


async def show_item(service: BlockStorage, request: Request[Any]) -> dict[str, Any]:
    snapshot, key = await owned(service, request), request.path["key"]
    if key not in snapshot.metadata:
        raise not_found("Snapshot metadata key", key)
    return {"meta": {key: snapshot.metadata[key]}}


async def put_item(service: BlockStorage, request: Request[ItemBody]) -> dict[str, Any]:
    snapshot, values = await owned(service, request), checked_metadata(request.body.meta)
    if len(values) != 1:
        raise invalid("Request body contains too many items.", hint='For example {"meta": {"key": "value"}}.')
    if request.path["key"] not in values:
        raise invalid("Request body and URI mismatch: the key in the path is not the key in the body.")
    await service.db.write(store.put_metadata, snapshot.id, values)
    return {"meta": values}


async def drop_item(service: BlockStorage, request: Request[Any]) -> None:
    snapshot = await owned(service, request)
    await service.db.write(store.drop_metadata, snapshot.id, request.path["key"])


_ALL = "/snapshots/{snapshot_id}/metadata"
_ITEM = f"{_ALL}/{{key}}"
_P = "volume:{}_snapshot_metadata"
RULES = (
    Rule(_P.format("get"), VOLUME_ADMIN_OR_READER, "Show a snapshot's metadata.", (("GET", _ALL), ("GET", _ITEM))),
    Rule(_P.format("update"), VOLUME_ADMIN_OR_MEMBER, "Change a snapshot's metadata.",
         (("POST", _ALL), ("PUT", _ALL), ("PUT", _ITEM))),
    Rule(_P.format("delete"), VOLUME_ADMIN_OR_MEMBER, "Drop a snapshot's metadata.", (("DELETE", _ITEM),)),
)  # fmt: skip
ROUTES = (
    Route(method="GET", path=_ALL, handler=show, policy=_P.format("get")),
    Route(method="POST", path=_ALL, handler=add, policy=_P.format("update"), body=MetadataBody),
    Route(method="PUT", path=_ALL, handler=replace, policy=_P.format("update"), body=MetadataBody),
    Route(method="GET", path=_ITEM, handler=show_item, policy=_P.format("get")),
    Route(method="PUT", path=_ITEM, handler=put_item, policy=_P.format("update"), body=ItemBody),
    Route(method="DELETE", path=_ITEM, handler=drop_item, policy=_P.format("delete")),
)
