"""The stores of this cloud by name: which is the default, which are written, in which order they are read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from kilonova.base.faults import invalid
from kilonova.image.contract import ImageStore

STAGED = "staged-"  # before an image's id: its data that waits to be imported, in the default store


@dataclass(frozen=True)
class Store:
    """A store with its name. A read-only one has no bytes of ours: its images' locations are URLs."""

    id: str
    kind: str  # file | http | s3 | swift | rbd | memory
    data: ImageStore | None
    description: str = ""
    weight: int = 0
    default: bool = False
    properties: dict[str, Any] = field(default_factory=dict)

    @property
    def read_only(self) -> bool:
        """Whether nothing can be saved there."""
        return self.data is None


class Stores:
    """The heaviest first. One is the default: the one that says so, else the first that can be written."""

    def __init__(self, stores: Iterable[Store]) -> None:
        self.all = tuple(sorted(stores, key=lambda store: -store.weight))
        self._by_id = {store.id: store for store in self.all}
        writable = [store for store in self.all if not store.read_only]
        self.default = next((store for store in writable if store.default), writable[0])
        self.writable = tuple(writable)

    @property
    def several(self) -> bool:
        """Whether users may choose."""
        return len(self.all) > 1

    def get(self, store_id: str) -> Store:
        """The store of that name; INVALID when there is none."""
        if store_id not in self._by_id:
            raise invalid(
                f"There is no store {store_id[:60]!r}.", hint=f"Known: {', '.join(store.id for store in self.all)}."
            )
        return self._by_id[store_id]

    def to_write(self, store_id: str) -> Store:
        """The store of that name ("": the default), which must take data."""
        store = self.get(store_id) if store_id else self.default
        if store.read_only:
            raise invalid(f"Store {store.id} is read-only.", hint="Choose another.")
        return store

    def data(self, store_id: str) -> ImageStore:
        """The bytes of the store of that name ("": the default)."""
        data = self.to_write(store_id).data
        assert data is not None
        return data

    def warning(self, store_ids: Iterable[str], disk_format: str | None) -> str:
        """What a user should know of data of that format in these stores, "" when there is nothing."""
        clones = [id_ for id_ in self.in_order(store_ids) if id_ in self._by_id and self._by_id[id_].kind == "rbd"]
        if not clones or disk_format == "raw":
            return ""
        return (
            f"Store {clones[0]} is on Ceph, which clones raw images only: a {disk_format} image is copied and "
            "converted on each host that starts it. Bring it as raw."
        )

    def in_order(self, store_ids: Iterable[str]) -> list[str]:
        """Store names, the heaviest first; "" means the default, what is gone from the settings comes last."""
        wanted = {store_id or self.default.id for store_id in store_ids}
        known = [store.id for store in self.all if store.id in wanted]
        return known + sorted(wanted.difference(known))
