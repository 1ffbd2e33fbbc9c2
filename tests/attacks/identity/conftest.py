"""A bootstrapped identity, with its victim and its attacker, for each attack."""

from __future__ import annotations

from tests.api.identity.conftest import cloud

__all__ = ["cloud"]
