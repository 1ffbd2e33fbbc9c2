"""Metrics: what this process counts and times, for Prometheus. Label children are kept, so that counting is cheap."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

REGISTRY: Final = CollectorRegistry(auto_describe=True)
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_http: Final = Histogram(
    "kilonova_http_request_seconds",
    "Time to answer a request, by service, method, route template and status",
    ("service", "method", "route", "status"),
    buckets=_SECONDS,
    registry=REGISTRY,
)
_units: Final = Histogram(
    "kilonova_db_unit_seconds",
    "Time of a unit of work, commit and queueing included, by database and access (read or write)",
    ("database", "access"),
    buckets=_SECONDS,
    registry=REGISTRY,
)
_messages: Final = Counter(
    "kilonova_bus_messages",
    "Messages by topic, verb (call, cast, fanout) and outcome (sent, handled, failed, refused)",
    ("topic", "verb", "outcome"),
    registry=REGISTRY,
)
_lag: Final = Histogram(
    "kilonova_loop_lag_seconds", "How late the event loop ran a timer", buckets=_SECONDS, registry=REGISTRY
)
_open: Final = Gauge(
    "kilonova_open", "What is open now: connections, descriptors, spans waiting", ("what",), registry=REGISTRY
)
_dropped: Final = Gauge("kilonova_trace_spans_dropped", "Spans that never reached the collector", registry=REGISTRY)

# Routes are templates and topics carry no host, so these caches hold as many children as the code has seams.
_http_child = cache(_http.labels)
_unit_child = cache(_units.labels)
_message_child = cache(_messages.labels)


def http_request(service: str, method: str, route: str, status: int, seconds: float) -> None:
    """Count and time one answered request; `route` is the template, never the path, or each id would be a series."""
    _http_child(service, method, route, str(status)).observe(seconds)


def db_unit(database: str, access: str, seconds: float) -> None:
    """Count and time one unit of work; `access` is read or write."""
    _unit_child(database, access).observe(seconds)


def bus_message(topic: str, verb: str, outcome: str) -> None:
    """Count one message; the host part of `topic` is cut off."""
    _message_child(topic.partition(".")[0], verb, outcome).inc()


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
