"""Pace: how long a runner waits before it looks again. The defaults suit a cloud; proofs hurry."""

from __future__ import annotations

import msgspec


class Pace(msgspec.Struct, frozen=True):
    """All in seconds. How long a lease lasts is the journal's: all runners of a service must agree on it."""

    sweep_seconds: float = 5.0  # between looks for operations that nobody works on
    silence_seconds: float = 15.0  # an agent, which tells progress every 5 s, is asked after this much silence
    stuck_first_retry_seconds: float = 4.0  # before an operation that could not go on is tried again; then 8, 12, …
    stuck_retry_seconds: float = 30.0  # and at most
    leave_seconds: float = 3.0  # how long a runner that leaves waits for its operations to end by themselves
    undo_patience_seconds: float = 30.0  # how long a silent host is waited for by an undo
