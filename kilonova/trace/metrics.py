"""Metrics: what this process counts and times, for Prometheus.

What each request, unit and message adds to is plain numbers, which become Prometheus' families when somebody asks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

REGISTRY: Final = CollectorRegistry(auto_describe=True)
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class _Times(Collector):
    """A histogram of seconds. Its series are few: labels are names and templates of the code, never of the tenants'."""

    def __init__(self, name: str, about: str, labels: tuple[str, ...]) -> None:
        self._name, self._about, self._labels = name, about, labels
        self._series: dict[tuple[str, ...], list[float]] = {}  # how many fell into each bucket, then their sum
        REGISTRY.register(self)

    def observe(self, labels: tuple[str, ...], seconds: float) -> None:
        """Count `seconds` in the series of these labels."""
        try:
            series = self._series[labels]
        except KeyError:
            series = self._series.setdefault(labels, [0.0] * (len(_SECONDS) + 2))
        series[bisect_left(_SECONDS, seconds)] += 1
        series[-1] += seconds

    def collect(self) -> Iterable[HistogramMetricFamily]:
        family = HistogramMetricFamily(self._name, self._about, labels=self._labels)
        bounds = [*map(floatToGoString, _SECONDS), "+Inf"]
        for labels, series in list(self._series.items()):
            *counts, total = series
            family.add_metric(labels, list(zip(bounds, accumulate(counts), strict=True)), total)
        yield family


class _Messages(Collector):
    """Messages by topic, verb and outcome."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str, str]] = Counter()
        REGISTRY.register(self)

    def collect(self) -> Iterable[CounterMetricFamily]:
        about = "Messages by topic, verb (call, cast, fanout) and outcome (sent, handled, failed, refused)"
        family = CounterMetricFamily("kilonova_bus_messages", about, labels=("topic", "verb", "outcome"))
        for labels, count in list(self.counts.items()):
            family.add_metric(labels, count)
        yield family


_http: Final = _Times(
    "kilonova_http_request_seconds",
    "Time to answer a request, by service, method, route template and status",
    ("service", "method", "route", "status"),
)
_units: Final = _Times(
    "kilonova_db_unit_seconds",
    "Time of a unit of work, commit and queueing included, by database and access (read or write)",
    ("database", "access"),
)
_messages: Final = _Messages()
_lag: Final = Histogram(
    "kilonova_loop_lag_seconds", "How late the event loop ran a timer", buckets=_SECONDS, registry=REGISTRY
)
_open: Final = Gauge(
    "kilonova_open", "What is open now: connections, descriptors, spans waiting", ("what",), registry=REGISTRY
)
_dropped: Final = Gauge("kilonova_trace_spans_dropped", "Spans that never reached the collector", registry=REGISTRY)


# Count and time one answered request: (service, method, route, status), seconds. The route is the template, never the
# path, or each id would be a series.
http_request: Final = _http.observe
# Count and time one unit of work: (database, read or write), seconds.
db_unit: Final = _units.observe


def bus_message(topic: str, verb: str, outcome: str) -> None:
    """Count one message; the host part of `topic` is cut off."""
    _messages.counts[topic.partition(".")[0], verb, outcome] += 1


def loop_lag(seconds: float) -> None:
    """Note how late the event loop was."""
    _lag.observe(max(0.0, seconds))


def watch(what: str, count: Callable[[], float]) -> None:
    """Whoever asks is told how many of `what` (descriptors, connections to a database, …) are open at that moment."""
    _open.labels(what).set_function(count)


def watch_dropped_spans(count: Callable[[], float]) -> None:
    """Whoever asks is told how many spans this process has lost so far."""
    _dropped.set_function(count)


def exposition() -> bytes:
    """All metrics in Prometheus' text format, for `/metrics`; served as CONTENT_TYPE."""
    return generate_latest(REGISTRY)
