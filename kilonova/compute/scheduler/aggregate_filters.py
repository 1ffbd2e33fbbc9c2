"""Filters about the aggregates that operators put hosts into: who they are for, and how full they get."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kilonova.compute.contract import RequestSpec
from kilonova.compute.scheduler.comparing import matches
from kilonova.compute.scheduler.state import HostState

_SCOPE: Final = "aggregate_instance_extra_specs:"
_TRAIT: Final = "trait:"


def _listed(text: str) -> set[str]:
    return {one.strip() for one in text.split(",") if one.strip()}


def extra_specs(host: HostState, spec: RequestSpec) -> str:
    """Each spec of the flavor (plain, or aggregate_instance_extra_specs:KEY) is met by an aggregate of the host."""
    for key, wanted in spec.flavor.extra_specs.items():
        name = key.removeprefix(_SCOPE)
        if ":" in name:
            continue
        have = [one for text in host.tagged(name) for one in (_listed(text) or {""})]
        if not have:
            return f"the flavor asks for {name} {wanted}, no aggregate of the host says so"
        if not any(matches(one, wanted) for one in have):
            return f"the flavor asks for {name} {wanted}, its aggregates have {', '.join(sorted(have))}"
    return ""


def image_isolation(host: HostState, spec: RequestSpec) -> str:
    """An aggregate's metadata that names an image property keeps images with other values away."""
    for key, has in sorted(spec.image_properties.items()):
        allowed = [_listed(text) for text in host.tagged(key)]
        if allowed and not any(has in one for one in allowed):
            return f"the image has {key} {has}, the host is for {', '.join(sorted(set().union(*allowed)))}"
    return ""


def tenancy(host: HostState, spec: RequestSpec) -> str:
    """Hosts of an aggregate with filter_tenant_id (or filter_tenant_id…, several keys) take those projects only."""
    projects: set[str] = set()
    for aggregate in host.aggregates:
        for key, value in aggregate.metadata.items():
            if key.startswith("filter_tenant_id"):
                projects |= _listed(value)
    return f"it is for other projects than {spec.project_id}" if projects and spec.project_id not in projects else ""


def type_affinity(host: HostState, spec: RequestSpec) -> str:
    """Hosts of an aggregate with instance_type take those flavors only, by name."""
    allowed = set().union(*(_listed(text) for text in host.tagged("instance_type")))
    if allowed and spec.flavor.name not in allowed:
        return f"it is for flavors {', '.join(sorted(allowed))}"
    return ""


def isolated(host: HostState, spec: RequestSpec) -> str:
    """Hosts of an aggregate with trait:X=required take only servers whose flavor or image require X."""
    asked = {**spec.image_properties, **spec.flavor.extra_specs}
    for aggregate in host.aggregates:
        for key, value in aggregate.metadata.items():
            if key.startswith(_TRAIT) and value == "required" and asked.get(key) != "required":
                return f"its aggregate {aggregate.name} is for servers that require {key.removeprefix(_TRAIT)}"
    return ""


Number = Callable[[HostState], int]


def least(key: str, otherwise: int) -> Number:
    """The least number that an aggregate of the host names under the key, else the setting."""

    def number(host: HostState) -> int:
        return min((int(text) for text in host.tagged(key) if text.strip().isdigit()), default=otherwise)

    return number


def io_ops(most: Number) -> Callable[[HostState, RequestSpec], str]:
    """Refuses hosts that build, move or snapshot as many servers as they may."""

    def refuses(host: HostState, _spec: RequestSpec) -> str:
        limit = most(host)
        return f"{host.building} servers are being built there, {limit} may be" if host.building >= limit else ""

    return refuses


def instances(most: Number) -> Callable[[HostState, RequestSpec], str]:
    """Refuses hosts that have as many servers as they may."""

    def refuses(host: HostState, _spec: RequestSpec) -> str:
        limit = most(host)
        return f"{host.servers} servers are there, {limit} may be" if host.servers >= limit else ""

    return refuses


def isolated_hosts(
    hosts: frozenset[str], images: frozenset[str], *, restrict: bool
) -> Callable[[HostState, RequestSpec], str]:
    """Isolated images go to isolated hosts only; with `restrict`, isolated hosts take nothing else."""

    def refuses(host: HostState, spec: RequestSpec) -> str:
        image_is, host_is = spec.image_id in images, host.host in hosts
        if image_is and not host_is:
            return "the image is for isolated hosts, and this is none"
        return "it is isolated, and the image is not" if host_is and restrict and not image_is else ""

    return refuses
