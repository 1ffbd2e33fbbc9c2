"""Redelegation: what a trust made with a token of another trust may be. Never more than the first."""

from __future__ import annotations

import msgspec

from kilonova.base.faults import forbidden
from kilonova.identity.trust.store import Trust


class Redelegation(msgspec.Struct, frozen=True):
    """What the client asked: whether the new trust may be redelegated, and how often."""

    allowed: bool
    wanted: int | None
    maximum: int

    def count(self, parent: Trust | None) -> int:
        """How many trusts may follow the new one. FORBIDDEN when none may follow `parent`, or it asks for too many."""
        if parent is not None and parent.redelegation_count < 1:
            raise forbidden("The trust that this token was got with may not be redelegated.")
        most = self.maximum if parent is None else parent.redelegation_count - 1
        if not self.allowed:
            return 0
        if self.wanted is not None and self.wanted > most:
            raise forbidden(f"Requested redelegation depth of {self.wanted} is greater than allowed {most}.")
        return most if self.wanted is None else self.wanted


def within(parent: Trust, trust: Trust) -> None:
    """FORBIDDEN when the new trust gives what `parent` does not; it ends with it at the latest."""
    if trust.project_id != parent.project_id:
        raise forbidden("A redelegated trust is for the project of the trust it is made with.")
    if not set(trust.role_ids) <= set(parent.role_ids):
        raise forbidden("Some of the requested roles are not in the redelegated trust.")
    if trust.impersonation and not parent.impersonation:
        raise forbidden("Impersonation is not allowed because the redelegated trust does not specify it.")
    if parent.expires_at is not None:
        if trust.expires_at is not None and trust.expires_at > parent.expires_at:
            raise forbidden("The requested expiration time is after that of the redelegated trust.")
        trust.expires_at = trust.expires_at or parent.expires_at
