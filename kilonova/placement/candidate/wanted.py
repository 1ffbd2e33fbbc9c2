"""What a query asks of providers, as data: one group of resources and conditions, or several that belong together."""

from __future__ import annotations

import msgspec

from kilonova.http.versions import Version


class Wanted(msgspec.Struct, frozen=True):
    """A group: amounts by resource class, and conditions on the providers that give them."""

    resources: dict[str, int] = {}
    required: tuple[frozenset[str], ...] = ()  # groups of traits of which each needs one
    forbidden: frozenset[str] = frozenset()
    member_of: tuple[frozenset[str], ...] = ()  # groups of aggregates, of which each must have the provider in one
    not_member_of: frozenset[str] = frozenset()
    in_tree: str = ""

    @property
    def traits(self) -> frozenset[str]:
        """All traits named."""
        return self.forbidden.union(*self.required)


class Asked(msgspec.Struct, frozen=True):
    """All groups of a search by suffix. "" may be served by several providers of a tree, each other by one provider."""

    groups: dict[str, Wanted]
    isolate: bool = False  # the suffixed groups must be served by different providers
    same_subtree: tuple[frozenset[str], ...] = ()  # suffixes whose providers must hang below one of them
    root_required: frozenset[str] = frozenset()
    root_forbidden: frozenset[str] = frozenset()
    limit: int | None = None
    nested: bool = True  # before 1.29 no two providers of one tree may serve a request

    @property
    def suffixed(self) -> list[str]:
        """The groups that one provider each must serve."""
        return [suffix for suffix in self.groups if suffix]

    @property
    def resources(self) -> frozenset[str]:
        """All resource classes named."""
        return frozenset(name for group in self.groups.values() for name in group.resources)

    @property
    def traits(self) -> frozenset[str]:
        """All traits named."""
        return self.root_required.union(self.root_forbidden, *(group.traits for group in self.groups.values()))


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """One way to serve a search, by slots of the mirror."""

    allocations: dict[int, dict[str, int]]
    mappings: dict[str, tuple[int, ...]]


class Found(msgspec.Struct, frozen=True):
    """All ways: slots that alone give everything to the only group, then the others."""

    alone: list[int]
    together: list[Candidate]


NESTED: Version = (1, 29)
