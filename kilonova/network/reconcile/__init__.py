"""Loops that make it so: one question per file."""

from __future__ import annotations

from kilonova.network.reconcile import bindings, outbox, unbuilt_ports
from kilonova.saga.loops import Loop

LOOPS = (
    Loop("outbox", 2.0, outbox.run, routine=True),
    Loop("bindings", 10.0, bindings.run),
    Loop("unbuilt ports", 10.0, unbuilt_ports.run),
)
