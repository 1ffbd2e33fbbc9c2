"""What users are told of the stores they choose."""

from __future__ import annotations

import pytest

from kilonova.image.stores import Store, Stores
from kilonova.node.images.store import MemoryStore

STORES = Stores((Store("files", "file", MemoryStore(), default=True), Store("ceph", "rbd", MemoryStore())))


@pytest.mark.parametrize("disk_format", ["qcow2", "vmdk", None])
def test_ceph_clones_raw_images_only(disk_format: str | None) -> None:
    assert "clones raw images only" in STORES.warning(["files", "ceph"], disk_format)
    assert "Store ceph" in STORES.warning(["ceph"], disk_format)


def test_nothing_is_said_where_nothing_is_lost() -> None:
    assert STORES.warning(["ceph", "files"], "raw") == ""
    assert STORES.warning(["files"], "qcow2") == STORES.warning([""], "qcow2") == ""
    assert STORES.warning(["gone from the settings"], "qcow2") == ""
