"""Scheduler hints: what a request says about other servers."""

from __future__ import annotations

from kilonova.compute.contract import RequestSpec

NEAR = ("same_host", "different_host")


def hinted(spec: RequestSpec, name: str) -> frozenset[str]:
    """The server ids of a scheduler hint, given as one or as a list."""
    value = spec.scheduler_hints.get(name) or ()
    return frozenset([value]) if isinstance(value, str) else frozenset(str(one) for one in value)
