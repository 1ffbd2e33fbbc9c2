"""Filters: pure questions to one host about one request. The answer is "" (it may stay) or why it may not.

Names are those that operators know. Room is no filter: placement's books decide that, before the first filter.
A filter may also say which hosts it leaves, of all at once (`leaves`): the same answer, faster. Operators' own filters
need only `refuses`; they come by the entry point group `kilonova.scheduler.filters`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from kilonova.compute.contract import RequestSpec
from kilonova.compute.scheduler import aggregate_filters, json_query, machine_filters
from kilonova.compute.scheduler.hints import hinted
from kilonova.compute.scheduler.state import HostState

if TYPE_CHECKING:
    from kilonova.compute.scheduler.table import HostTable
    from kilonova.placement.mirror.columns import Mask

Refuses = Callable[[HostState, RequestSpec], str]
Leaves = Callable[["HostTable", RequestSpec], "Mask | None"]


class Filter(msgspec.Struct, frozen=True):
    """A named question. `tells` says to a tenant, without naming hosts, why nothing was left.

    `leaves` answers for all hosts at once; None there: nobody is refused. `asks`: whether the request concerns it.
    `lasting`: what `leaves` answers depends on what hosts and request are, not on which servers came meanwhile.
    """

    name: str
    refuses: Refuses
    tells: Callable[[RequestSpec], str]
    leaves: Leaves | None = None
    asks: Callable[[RequestSpec], bool] = lambda _: True
    lasting: bool = False


def _compute(host: HostState, _spec: RequestSpec) -> str:
    if not host.enabled:
        return f"the compute service is disabled{f': {host.disabled_reason}' if host.disabled_reason else ''}"
    return "" if host.up else "the compute service is down"


def _availability_zone(host: HostState, spec: RequestSpec) -> str:
    if spec.availability_zone in ("", host.availability_zone):
        return ""
    return f"it is in availability zone {host.availability_zone}, not {spec.availability_zone}"


def _requested_host(host: HostState, spec: RequestSpec) -> str:
    if spec.requested_host and spec.requested_host not in (host.host, host.node):
        return f"{spec.requested_host} was asked for"
    return "it was tried before, or must be avoided" if host.host in spec.ignore_hosts else ""


def _requested_leaves(table: HostTable, spec: RequestSpec) -> Mask | None:
    mask = table.without(spec.ignore_hosts) if spec.ignore_hosts else None
    if wanted := spec.requested_host:
        named = table.only([state.host for state in table.states if wanted in (state.host, state.node)])
        mask = named if mask is None else mask & named
    return mask


def _near(spec: RequestSpec, hint: str, host: str) -> list[str]:
    return sorted(one for one in hinted(spec, hint) if spec.near.get(one) == host)


def _same_host(host: HostState, spec: RequestSpec) -> str:
    asked = bool(hinted(spec, "same_host"))
    return "none of the servers to be near to is here" if asked and not _near(spec, "same_host", host.host) else ""


def _different_host(host: HostState, spec: RequestSpec) -> str:
    near = _near(spec, "different_host", host.host)
    return f"{', '.join(near)} is here, which the server must not be near to" if near else ""


def _hosts_of(spec: RequestSpec, hint: str) -> list[str]:
    return [spec.near[one] for one in hinted(spec, hint) if one in spec.near]


def _simple_cidr(host: HostState, spec: RequestSpec) -> str:
    near = spec.scheduler_hints.get("build_near_host_ip")
    if not near or not host.host_ip:
        return ""
    mask = str(spec.scheduler_hints.get("cidr") or "/24")
    try:
        network = ipaddress.ip_network(f"{near}/{mask.lstrip('/')}", strict=False)
    except ValueError:
        return f"the hints build_near_host_ip {near} and cidr {mask} are no network"
    return "" if ipaddress.ip_address(host.host_ip) in network else f"its address {host.host_ip} is not in {network}"


def _group(policy: str) -> Refuses:
    def refuses(host: HostState, spec: RequestSpec) -> str:
        return spec.group.refuses(host.host) if spec.group and spec.group.policy == policy else ""

    return refuses


def _apart(table: HostTable, spec: RequestSpec) -> Mask | None:
    group = spec.group
    if group is None or group.policy != "anti-affinity":
        return None
    return table.without([host for host in group.hosts if group.refuses(host)])


def _together(table: HostTable, spec: RequestSpec) -> Mask | None:
    group = spec.group
    if group is None or group.policy != "affinity" or not group.hosts:
        return None
    return table.only([host for host in group.hosts if not group.refuses(host)])


def _zone_words(spec: RequestSpec) -> str:
    return f"No host in availability zone {spec.availability_zone} can take it."


def _host_words(spec: RequestSpec) -> str:
    return "The requested host cannot take it." if spec.requested_host else "No other host can take it."


def _says(words: str) -> Callable[[RequestSpec], str]:
    return lambda _: words


_OWN: Final = (
    Filter("AllHostsFilter", lambda _host, _spec: "", _says("No host is left."), lambda _table, _spec: None),
    Filter(
        "ComputeFilter",
        _compute,
        _says("No compute host with room is in service now."),
        lambda t, s: t.verdicts("service", lambda h: (h.enabled, h.disabled_reason, h.up), _compute, s),
    ),
    Filter(
        "AvailabilityZoneFilter",
        _availability_zone,
        _zone_words,
        lambda t, s: t.verdicts("zone", lambda h: h.availability_zone, _availability_zone, s),
        lambda s: bool(s.availability_zone),
    ),
    Filter(
        "RequestedHostFilter",
        _requested_host,
        _host_words,
        _requested_leaves,
        lambda s: bool(s.requested_host or s.ignore_hosts),
    ),
    Filter(
        "SameHostFilter",
        _same_host,
        _says("No host with the servers of the hint same_host can take it."),
        lambda t, s: t.only(_hosts_of(s, "same_host")),
        lambda s: bool(hinted(s, "same_host")),
    ),
    Filter(
        "DifferentHostFilter",
        _different_host,
        _says("Every host has a server of the hint different_host."),
        lambda t, s: t.without(_hosts_of(s, "different_host")),
        lambda s: bool(hinted(s, "different_host")),
    ),
    Filter(
        "SimpleCIDRAffinityFilter",
        _simple_cidr,
        _says("No host near the address of the hint build_near_host_ip can take it."),
        asks=lambda s: bool(s.scheduler_hints.get("build_near_host_ip")),
    ),
    Filter(
        "JsonFilter",
        json_query.refuses,
        _says("No host matches the hint query."),
        asks=lambda s: bool(s.scheduler_hints.get("query")),
    ),
    Filter(
        "ServerGroupAntiAffinityFilter",
        _group("anti-affinity"),
        _says("Every host has as many servers of the group as its policy allows."),
        _apart,
    ),
    Filter(
        "ServerGroupAffinityFilter",
        _group("affinity"),
        _says("The host of the group's other servers cannot take it."),
        _together,
    ),
)


def _kind(host: HostState) -> tuple[str, str, int, str]:
    return host.hypervisor_type, str(host.cpu_info.get("arch", "")), host.hypervisor_version, repr(host.cpu_info)


def _by_aggregates(host: HostState) -> tuple[int, ...]:
    return tuple(one.id for one in host.aggregates)


def _of_machines(name: str, refuses: Refuses, words: str) -> Filter:
    return Filter(name, refuses, _says(words), lambda t, s: t.verdicts("kind", _kind, refuses, s))


def _of_aggregates(name: str, refuses: Refuses, words: str) -> Filter:
    return Filter(name, refuses, _says(words), lambda t, s: t.verdicts("aggregates", _by_aggregates, refuses, s))


_SHARED: Final = "No host that is meant for such servers can take it."
_MACHINES: Final = (
    _of_machines("ImagePropertiesFilter", machine_filters.image_properties, "No host can run this kind of image."),
    _of_machines("ComputeCapabilitiesFilter", machine_filters.capabilities, "No host is what the flavor asks for."),
    Filter("NUMATopologyFilter", machine_filters.numa, _says("No host has the NUMA cells, dedicated CPUs or huge pages "
           "that it asks for."), lambda t, s: t.verdicts("cells", lambda h: h.numa_cells, machine_filters.numa, s),
           asks=machine_filters.asks_numa),
    Filter("PciPassthroughFilter", machine_filters.pci, _says("No host has the PCI devices that it asks for."),
           lambda t, s: t.verdicts("pools", lambda h: h.pci_pools, machine_filters.pci, s),
           asks=machine_filters.asks_pci),
)  # fmt: skip
_AGGREGATES: Final = (
    _of_aggregates("AggregateInstanceExtraSpecsFilter", aggregate_filters.extra_specs, _SHARED),
    _of_aggregates("AggregateImagePropertiesIsolation", aggregate_filters.image_isolation, _SHARED),
    _of_aggregates("AggregateMultiTenancyIsolation", aggregate_filters.tenancy, _SHARED),
    _of_aggregates("AggregateTypeAffinityFilter", aggregate_filters.type_affinity, _SHARED),
    _of_aggregates("IsolatedAggregatesFilter", aggregate_filters.isolated, _SHARED),
)


class Limits(msgspec.Struct, frozen=True):
    """Numbers and lists that some filters need; operators set them."""

    max_io_ops_per_host: int = 8
    max_instances_per_host: int = 50
    isolated_hosts: tuple[str, ...] = ()
    isolated_images: tuple[str, ...] = ()
    restrict_isolated_hosts_to_isolated_images: bool = True


def _limited(limits: Limits) -> tuple[Filter, ...]:
    """Filters with numbers of their own. Those of an aggregate go before those of the settings; the least counts."""
    busy = aggregate_filters.io_ops(lambda _: limits.max_io_ops_per_host)
    busy_there = aggregate_filters.io_ops(aggregate_filters.least("max_io_ops_per_host", limits.max_io_ops_per_host))
    full = aggregate_filters.instances(lambda _: limits.max_instances_per_host)
    full_there = aggregate_filters.instances(
        aggregate_filters.least("max_instances_per_host", limits.max_instances_per_host)
    )
    isolated = aggregate_filters.isolated_hosts(
        frozenset(limits.isolated_hosts),
        frozenset(limits.isolated_images),
        restrict=limits.restrict_isolated_hosts_to_isolated_images,
    )
    working, crowded = "Every host with room is busy building servers.", "Every host has as many servers as it may."
    return (
        Filter("IoOpsFilter", busy, _says(working), lambda t, _: t.building < limits.max_io_ops_per_host),
        Filter("AggregateIoOpsFilter", busy_there, _says(working)),
        Filter("NumInstancesFilter", full, _says(crowded), lambda t, _: t.servers < limits.max_instances_per_host),
        Filter("AggregateNumInstancesFilter", full_there, _says(crowded)),
        Filter(
            "IsolatedHostsFilter",
            isolated,
            _says(_SHARED),
            None if limits.isolated_hosts or limits.isolated_images else lambda _t, _s: None,
        ),
    )


COUNTING: Final = frozenset({"NumInstancesFilter", "AggregateNumInstancesFilter"})  # they need servers per host


def known_filters(limits: Limits | None = None) -> dict[str, Filter]:
    """Every filter of ours by its name, with these limits."""
    lasting = (msgspec.structs.replace(one, lasting=True) for one in (*_OWN, *_MACHINES, *_AGGREGATES))
    return {one.name: one for one in (*lasting, *_limited(limits or Limits()))}


DEFAULT_FILTERS: Final = (
    "ComputeFilter",
    "AvailabilityZoneFilter",
    "RequestedHostFilter",
    "ComputeCapabilitiesFilter",
    "ImagePropertiesFilter",
    "SameHostFilter",
    "DifferentHostFilter",
    "ServerGroupAntiAffinityFilter",
    "ServerGroupAffinityFilter",
    "NUMATopologyFilter",
    "PciPassthroughFilter",
)
