"""Room: which hosts have what a request needs, by placement's books: amounts, traits, and groups on parts of a host.

Flavors speak of parts in extra specs: `resources:CLASS`, `trait:NAME` = required | forbidden, and with a number
(`resources1:CLASS`, `trait1:NAME`, `group_policy`) for what one provider of the host must give by itself.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec
import numpy as np

from kilonova.compute.contract import RequestSpec
from kilonova.compute.scheduler.rules import SchedulerSettings
from kilonova.compute.scheduler.table import HostTable
from kilonova.placement.candidate.search import search
from kilonova.placement.candidate.wanted import Asked, Wanted
from kilonova.placement.mirror.books import Mirror
from kilonova.placement.mirror.columns import Mask

_PART: Final = re.compile(r"(resources|trait)([A-Za-z0-9_-]{0,64}):(.+)")
Allocations = dict[str, dict[str, int]]


class Needs(msgspec.Struct, frozen=True):
    """What a request needs of the books."""

    resources: dict[str, int]
    required: tuple[str, ...]
    forbidden: tuple[str, ...]
    parts: dict[str, Wanted]  # by suffix; a part is given by one provider
    isolate: bool = False


class Room(msgspec.Struct, frozen=True):
    """The hosts with room, and what they would give when it is not simply everything from the host's own provider."""

    mask: Mask
    allocations: dict[int, Allocations]  # row → provider id → resources


def needs_of(spec: RequestSpec, settings: SchedulerSettings) -> Needs:
    """Amounts, traits and parts that flavor and image ask for; the scheduler's own prefilters are in it."""
    required, forbidden = _more_traits(spec, settings), set[str]()
    parts: dict[str, dict[str, dict[str, str]]] = {}
    for key, value in {**spec.image_properties, **spec.flavor.extra_specs}.items():
        found = _PART.fullmatch(key)
        if found is None:
            continue
        kind, suffix, name = found.groups()
        if suffix:
            parts.setdefault(suffix, {"resources": {}, "trait": {}})[kind][name] = value
        elif kind == "trait" and value == "required":
            required.add(name)
        elif kind == "trait" and value == "forbidden":
            forbidden.add(name)
    wanted = {suffix: _part(one) for suffix, one in parts.items() if one["resources"]}
    isolate = spec.flavor.extra_specs.get("group_policy") == "isolate"
    return Needs(spec.resources, tuple(sorted(required)), tuple(sorted(forbidden)), wanted, isolate)


def _part(one: dict[str, dict[str, str]]) -> Wanted:
    amounts = {name: int(text) for name, text in one["resources"].items() if text.isdigit()}
    required = tuple(frozenset([name]) for name, said in one["trait"].items() if said == "required")
    return Wanted(amounts, required, frozenset(name for name, said in one["trait"].items() if said == "forbidden"))


def _more_traits(spec: RequestSpec, settings: SchedulerSettings) -> set[str]:
    """Prefilters: the image's disk format and architecture as traits."""
    made = set()
    properties = spec.image_properties
    if settings.require_image_format and (format_ := properties.get("disk_format")):
        made.add(f"COMPUTE_IMAGE_TYPE_{format_.upper()}")
    architecture = properties.get("hw_architecture") or properties.get("architecture")
    if settings.require_architecture and architecture:
        made.add(f"HW_ARCH_{architecture.upper()}")
    return made


def with_room(table: HostTable, needs: Needs, *, spread: bool) -> Room:
    """The hosts that can give it now. One pass over all when each gives it from its own provider (not `spread`)."""
    mirror = table.mirror
    if spread:
        return _searched(table, needs)
    fits = mirror.alive().copy()
    for name, amount in needs.resources.items():
        fits &= mirror.room(name, amount)
    for trait in needs.required:
        fits &= mirror.having(trait)
    for trait in needs.forbidden:
        fits &= ~mirror.having(trait)
    return Room(table.by_slot(fits), {})


def is_spread(mirror: Mirror, needs: Needs) -> bool:
    """Whether parts are asked for, or a class or trait hangs on other providers than roots: trees must be searched."""
    if mirror.sharing or needs.parts:
        return True
    below = mirror.roots != np.arange(mirror.size)
    if not below.any():
        return False
    columns = [mirror.columns[name].has[: mirror.size] for name in needs.resources if name in mirror.columns]
    traits = [mirror.having(name) for name in needs.required]
    return any(bool((mask & below).any()) for mask in (*columns, *traits))


def _searched(table: HostTable, needs: Needs) -> Room:
    mirror = table.mirror
    required = tuple(frozenset([trait]) for trait in needs.required)
    groups = {"": Wanted(needs.resources, required, frozenset(needs.forbidden)), **needs.parts}
    found = search(mirror, Asked({suffix: one for suffix, one in groups.items() if one.resources}, needs.isolate))
    mask = np.zeros(len(table), dtype=np.bool_)
    allocations: dict[int, Allocations] = {}
    for slot in found.alone:
        row = table.row_of(mirror.at(mirror.root_of(slot)).id)
        if row is not None and not mask[row]:
            mask[row] = True
            if mirror.root_of(slot) != slot:
                allocations[row] = {mirror.at(slot).id: needs.resources}
    for one in found.together:
        roots = {mirror.root_of(slot) for slot in one.allocations}
        rows = [row for root in roots if (row := table.row_of(mirror.at(root).id)) is not None]
        for row in rows[:1]:
            if not mask[row]:
                mask[row] = True
                allocations[row] = {mirror.at(slot).id: given for slot, given in one.allocations.items()}
    return Room(mask, allocations)
