"""Views: how a noun shows at each microversion, declared field by field; the core knows only today."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from kilonova.http.versions import Version, within

N = TypeVar("N")


class Field(Generic[N]):
    """One key of an answer: how to get it, and at which microversions it exists."""

    __slots__ = ("get", "name", "since", "until")

    def __init__(self, name: str, get: Callable[[N], Any], *, since: str = "", until: str = "") -> None:
        self.name = name
        self.get = get
        self.since = since
        self.until = until


class View(Generic[N]):
    """A noun's fields. `view.show(version, noun)` is a dict ready for JSON."""

    def __init__(self, *fields: Field[N]) -> None:
        self._fields = fields
        self._at: dict[Version, tuple[tuple[str, Callable[[N], Any]], ...]] = {}

    def show(self, version: Version, noun: N) -> dict[str, Any]:
        """`noun` as clients of `version` see it."""
        fields = self._at.get(version)
        if fields is None:
            fields = tuple((f.name, f.get) for f in self._fields if within(version, f.since, f.until))
            self._at[version] = fields
        return {name: get(noun) for name, get in fields}
