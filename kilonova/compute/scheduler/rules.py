"""Rules: which filters and weighers run, in which order, with what weight. They are checked when a process starts.

An operator's own come by entry points: a package whose metadata names `kilonova.scheduler.filters` or `.weighers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from kilonova.base.faults import Fault, invalid
from kilonova.compute.scheduler import filters, weighers
from kilonova.compute.scheduler.filters import Filter
from kilonova.compute.scheduler.weighers import Weigher

T = TypeVar("T")
GROUPS: Final = "kilonova.scheduler."


@dataclass(frozen=True)
class SchedulerSettings:
    """How hosts are chosen; operators set these, under [scheduler]."""

    filters: tuple[str, ...] = filters.DEFAULT_FILTERS
    weights: dict[str, float] = field(default_factory=dict)  # weigher → multiplier, over the defaults; 0: left out
    host_subset_size: int = 1  # the first is drawn among this many best; more: fewer schedulers meet on one host
    max_attempts: int = 3  # hosts that may try to build a server: the chosen one and its alternates
    claim_attempts: int = 8  # claims that may be lost to other schedulers before a server is refused
    batch: int = 128  # decisions that are claimed together
    isolate_aggregates: bool = False  # aggregates with trait:X=required take only servers that require X
    require_image_format: bool = False  # hosts must have the trait COMPUTE_IMAGE_TYPE_… of the image's disk format
    require_architecture: bool = False  # hosts must have the trait HW_ARCH_… of the image's architecture
    max_io_ops_per_host: int = 8
    max_instances_per_host: int = 50
    isolated_hosts: tuple[str, ...] = ()
    isolated_images: tuple[str, ...] = ()
    restrict_isolated_hosts_to_isolated_images: bool = True
    metrics: dict[str, float] = field(default_factory=dict)  # what a host measures → ratio, for MetricsWeigher
    image_properties: dict[str, float] = field(default_factory=dict)  # property → ratio, for ImagePropertiesWeigher


@dataclass(frozen=True)
class Rules:
    """Settings, looked up once."""

    settings: SchedulerSettings
    filters: tuple[Filter, ...]
    weighers: tuple[tuple[Weigher, float], ...]
    counting: bool  # whether servers per host must be known

    @classmethod
    def of(cls, settings: SchedulerSettings) -> Rules:
        """INVALID, naming it and the nearest, when a filter or weigher does not exist."""
        limits = filters.Limits(
            settings.max_io_ops_per_host,
            settings.max_instances_per_host,
            settings.isolated_hosts,
            settings.isolated_images,
            settings.restrict_isolated_hosts_to_isolated_images,
        )
        asked = settings.filters
        if settings.isolate_aggregates and "IsolatedAggregatesFilter" not in asked:
            asked = (*asked, "IsolatedAggregatesFilter")
        known = {**filters.known_filters(limits), **_plugged("filters", asked, _as_filter)}
        chosen = tuple(_named("filter", name, known) for name in asked)
        ours = weighers.known_weighers(settings.metrics, settings.image_properties)
        all_weighers = {**ours, **_plugged("weighers", settings.weights, _as_weigher)}
        for name in settings.weights:
            _named("weigher", name, all_weighers)
        used = [(one, settings.weights.get(name, one.multiplier)) for name, one in all_weighers.items()]
        weighed = tuple((one, multiplier) for one, multiplier in used if multiplier)
        names = {one.name for one in chosen} | {one.name for one, _ in weighed}
        counting = bool(names & (filters.COUNTING | weighers.COUNTING)) or not names <= {
            *filters.known_filters(),
            *ours,
        }
        return cls(settings, chosen, weighed, counting)


def _named(what: str, name: str, known: Mapping[str, T]) -> T:
    if name not in known:
        import difflib  # only when a name is wrong

        near = difflib.get_close_matches(name, known, 1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."
        raise invalid(f"There is no scheduler {what} {name}.", hint=hint)
    return known[name]


def _plugged(kind: str, wanted: Iterable[str], made: Callable[[str, Any], T]) -> dict[str, T]:
    """Operators' own among the names: one that is not named is not loaded."""
    from importlib.metadata import entry_points  # this module is read by all, who schedules calls it

    names = set(wanted)
    found: dict[str, T] = {}
    for point in entry_points(group=GROUPS + kind):
        if point.name in names:
            try:
                found[point.name] = made(point.name, point.load())
            except (ImportError, AttributeError, TypeError) as error:
                raise Fault(
                    kind=invalid("").kind,
                    message=f"Scheduler {kind[:-1]} {point.name} ({point.value}) cannot be loaded: {error}.",
                    hint="Install what it needs, or take it out of the settings.",
                ) from error
    return found


def _as_filter(name: str, loaded: Any) -> Filter:
    """A Filter, or a function of (host, spec) that answers why not."""
    if isinstance(loaded, Filter):
        return loaded
    if not callable(loaded):
        raise TypeError("it is neither a Filter nor a function")
    return Filter(name, loaded, lambda _: "No host can take it by the rules of this cloud.")


def _as_weigher(name: str, loaded: Any) -> Weigher:
    """A Weigher, or a function of (host, spec) that answers a number."""
    if isinstance(loaded, Weigher):
        return loaded
    if not callable(loaded):
        raise TypeError("it is neither a Weigher nor a function")
    return Weigher(name, loaded)
