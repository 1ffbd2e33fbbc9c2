"""JsonFilter: the hint `query`, a condition in JSON: ["and", [">=", "$free_ram_mb", 4096], ["=", "$host", "a"]]"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Final

import msgspec

from kilonova.compute.contract import RequestSpec
from kilonova.compute.scheduler.state import HostState

_DEPTH: Final = 20


class _Bad(Exception):
    """The query is none."""


def refuses(host: HostState, spec: RequestSpec) -> str:
    """Why the query leaves the host out; a query that cannot be understood leaves every host out."""
    query = spec.scheduler_hints.get("query")
    if not query:
        return ""
    try:
        condition = msgspec.json.decode(query) if isinstance(query, str) else query
        return "" if _truth(condition, host, 0) else "it does not match the hint query"
    except (msgspec.DecodeError, _Bad, TypeError) as error:
        return f"the hint query cannot be understood: {error}"


def _compare(test: Callable[[Any, Any], bool]) -> Callable[[list[Any]], bool]:
    return lambda values: all(test(values[0], other) for other in values[1:]) and len(values) > 1


_COMPARE: Final[dict[str, Callable[[list[Any]], bool]]] = {
    "=": _compare(operator.eq),
    "<": _compare(operator.lt),
    ">": _compare(operator.gt),
    "<=": _compare(operator.le),
    ">=": _compare(operator.ge),
    "in": lambda values: values[0] in values[1:],
}


def _truth(condition: Any, host: HostState, depth: int) -> bool:
    if depth > _DEPTH:
        raise _Bad(f"it is nested more than {_DEPTH} deep")
    if not isinstance(condition, list) or not condition:
        raise _Bad(f"{condition!r:.60} is no condition")
    word, *rest = condition
    if word == "not" and len(rest) == 1:
        return not _truth(rest[0], host, depth + 1)
    if word in ("and", "or"):
        inner = [_truth(one, host, depth + 1) for one in rest]
        return all(inner) if word == "and" else any(inner)
    if not isinstance(word, str) or word not in _COMPARE or len(rest) < 2:
        raise _Bad(f"{word!r:.60} is no operator, or has too little to compare")
    return _COMPARE[word]([_value(one, host) for one in rest])


def _value(word: Any, host: HostState) -> Any:
    if not (isinstance(word, str) and word.startswith("$")):
        return word
    values: dict[str, Any] = {
        "host": host.host,
        "hypervisor_hostname": host.node,
        "hypervisor_type": host.hypervisor_type,
        "hypervisor_version": host.hypervisor_version,
        "free_ram_mb": host.free("MEMORY_MB"),
        "total_usable_ram_mb": host.capacity.get("MEMORY_MB", 0),
        "free_disk_mb": host.free("DISK_GB") * 1024,
        "vcpus_total": host.capacity.get("VCPU", 0),
        "vcpus_used": host.used.get("VCPU", 0),
        "num_instances": host.servers,
        "num_io_ops": host.building,
        "availability_zone": host.availability_zone,
    }
    if word[1:] not in values:
        raise _Bad(f"a host has no {word[:40]}; there are ${', $'.join(values)}")
    return values[word[1:]]
