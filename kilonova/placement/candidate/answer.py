"""The answer to a search, as JSON text. Ten thousand candidates are joined from pieces that are made once.

How a provider shows at 1.29 and later is kept with the mirror until the provider changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from kilonova.http.versions import Version
from kilonova.placement.candidate.wanted import NESTED, Asked, Candidate, Found
from kilonova.placement.contract import ProviderBooks
from kilonova.placement.mirror.books import Mirror
from kilonova.placement.mirror.columns import capacity_of

BY_PROVIDER: Final[Version] = (1, 12)
WITH_TRAITS: Final[Version] = (1, 17)
ALL_CLASSES: Final[Version] = (1, 27)
MAPPED: Final[Version] = (1, 34)
_encode: Final = msgspec.json.encode
_PLACE: Final = "00000000-placed-here"  # no provider has this id


def answered(version: Version, mirror: Mirror, asked: Asked, found: Found) -> bytes:
    """{"allocation_requests": […], "provider_summaries": {…}} as clients of `version` read it."""
    requests = [*_alone(version, mirror, asked, found.alone)]
    requests += (_encode(_request(version, mirror, one)) for one in found.together)
    serving = list(dict.fromkeys([*found.alone, *(slot for one in found.together for slot in one.allocations)]))
    if version >= NESTED:
        roots = dict.fromkeys(mirror.root_of(slot) for slot in serving)
        summaries: Iterable[bytes] = (_shown(mirror, slot) for root in roots for slot in mirror.members[root])
    else:
        summaries = (_shown_before_trees(version, asked, mirror.at(slot)) for slot in serving)
    return b'{"allocation_requests":[%b],"provider_summaries":{%b}}' % (b",".join(requests), b",".join(summaries))


def _alone(version: Version, mirror: Mirror, asked: Asked, slots: list[int]) -> Iterable[bytes]:
    """Requests that differ in the provider's id only."""
    if not slots:
        return []
    (suffix, group), *_ = asked.groups.items()
    parts = _encode(_body(version, {_PLACE: group.resources}, {suffix: [_PLACE]})).split(_PLACE.encode())
    return (mirror.at(slot).id.encode().join(parts) for slot in slots)


def _request(version: Version, mirror: Mirror, one: Candidate) -> dict[str, Any]:
    allocations = {mirror.at(slot).id: amounts for slot, amounts in one.allocations.items()}
    mappings = {suffix: [mirror.at(slot).id for slot in slots] for suffix, slots in one.mappings.items()}
    return _body(version, allocations, mappings)


def _body(version: Version, allocations: dict[str, dict[str, int]], mappings: dict[str, list[str]]) -> dict[str, Any]:
    if version < BY_PROVIDER:
        listed = [{"resource_provider": {"uuid": id_}, "resources": given} for id_, given in allocations.items()]
        return {"allocations": listed}
    body: dict[str, Any] = {"allocations": {id_: {"resources": given} for id_, given in allocations.items()}}
    if version >= MAPPED:
        body["mappings"] = mappings
    return body


def _shown(mirror: Mirror, slot: int) -> bytes:
    if (text := mirror.shown.get(slot)) is None:
        books = mirror.at(slot)
        whole = {
            "resources": _resources(books),
            "traits": books.traits,
            "parent_provider_uuid": books.parent_id,
            "root_provider_uuid": books.root_id,
        }
        text = mirror.shown[slot] = b"%b:%b" % (_encode(books.id), _encode(whole))
    return text


def _shown_before_trees(version: Version, asked: Asked, books: ProviderBooks) -> bytes:
    resources = _resources(books)
    if version < ALL_CLASSES:
        wanted = asked.resources
        resources = {name: book for name, book in resources.items() if name in wanted}
    shown: dict[str, Any] = {"resources": resources}
    if version >= WITH_TRAITS:
        shown["traits"] = books.traits
    return b"%b:%b" % (_encode(books.id), _encode(shown))


def _resources(books: ProviderBooks) -> dict[str, dict[str, int]]:
    return {
        name: {"capacity": capacity_of(book), "used": books.used.get(name, 0)}
        for name, book in sorted(books.inventories.items())
    }
