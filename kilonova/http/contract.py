"""What http needs from above: somebody who knows callers, and somebody who knows rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from kilonova.base.caller import Caller


class Authenticator(Protocol):
    """Turns tokens into callers; identity's validator implements it."""

    async def authenticate(self, token: str, service_token: str) -> Caller:
        """The token's holder. UNAUTHENTICATED when unknown, expired or revoked."""
        ...


class Enforcer(Protocol):
    """Knows the rules; kilonova.policy implements it."""

    def enforce(self, rule: str, caller: Caller, target: Mapping[str, Any]) -> None:
        """Return, or raise FORBIDDEN."""
        ...

    def allows(self, rule: str, caller: Caller, target: Mapping[str, Any]) -> bool:
        """Whether `enforce` would return."""
        ...
