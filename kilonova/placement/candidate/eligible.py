"""Which providers may serve a group, as masks over the mirror: one pass per condition, however many providers."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from kilonova.placement.candidate.wanted import Wanted
from kilonova.placement.mirror.books import Mirror
from kilonova.placement.mirror.columns import Mask


class Eligible:
    """Who may serve a group. For the group "" an aggregate that holds a root holds its whole tree; else each its own.

    `by_part`: for the group "" one mask per resource class; for a suffixed group one mask, of those that give all.
    """

    def __init__(self, mirror: Mirror, suffix: str, group: Wanted) -> None:
        self.suffix = suffix
        self.group = group
        self._mirror = mirror
        able = mirror.alive() & ~mirror.having_any(group.forbidden)
        self._in = [mirror.in_any(aggregates) for aggregates in group.member_of]
        self._not_in = mirror.in_any(group.not_member_of)
        here = able & self._placed(mirror)
        rooms = {name: mirror.room(name, amount) for name, amount in group.resources.items()}
        if suffix:
            everything = here.copy()
            for room in rooms.values():
                everything &= room
            for traits in group.required:
                everything &= mirror.having_any(traits)
            self.by_part: dict[str, Mask] = {"": everything}
            sharing = [slot for slot in mirror.sharing if everything[slot]]
        else:
            self.by_part = {name: room & here for name, room in rooms.items()}
            sharing = [] if group.in_tree else [slot for slot in mirror.sharing if able[slot]]
        self.shared_by_part: dict[str, dict[int, list[int]]] = {}
        for part in self.by_part:
            givers = sharing if suffix else [slot for slot in sharing if rooms[part][slot]]
            self.shared_by_part[part] = self._reach(givers)

    def _placed(self, mirror: Mirror) -> Mask:
        """Providers in the tree and the aggregates that are asked for."""
        spans = not self.suffix
        fits = ~(self._not_in | self._not_in[mirror.roots] if spans else self._not_in)
        for among in self._in:
            fits &= among | among[mirror.roots] if spans else among
        if self.group.in_tree:
            member = mirror.slots.get(self.group.in_tree)
            fits &= mirror.nothing() if member is None else mirror.roots == mirror.root_of(member)
        return fits

    def _reach(self, givers: Iterable[int]) -> dict[int, list[int]]:
        """root → sharing providers that serve its tree from outside."""
        reach: dict[int, list[int]] = {}
        for giver in sorted(givers):
            for root in self._mirror.anchors_of(giver) - {self._mirror.root_of(giver)}:
                if self.suffix or self._joined(giver, root):
                    reach.setdefault(root, []).append(giver)
        return reach

    def _joined(self, giver: int, root: int) -> bool:
        return not (self._not_in[giver] or self._not_in[root]) and all(among[giver] for among in self._in)

    def roots(self) -> Mask:
        """Roots of trees that have somebody for each part, in them or sharing with them."""
        mirror = self._mirror
        found = np.ones(mirror.size, dtype=np.bool_)
        for part, mask in self.by_part.items():
            reached = mirror.nothing()
            reached[mirror.roots[mask]] = True
            reached[list(self.shared_by_part[part])] = True
            found &= reached
        return found

    def shared_roots(self) -> set[int]:
        """Roots of trees that somebody from outside may serve."""
        return set().union(*self.shared_by_part.values())

    def at(self, root: int, part: str) -> list[int]:
        """Slots that may give the part to the tree of `root`."""
        mask = self.by_part[part]
        own = [slot for slot in self._mirror.members.get(root, ()) if mask[slot]]
        return own + [slot for slot in self.shared_by_part[part].get(root, ()) if slot not in own]
