"""Revoking tokens: everything that a user, project or domain got so far."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from kilonova.identity.token import revocation_store
from kilonova.identity.token.revocation_store import RevocationKind

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService


async def revoke_tokens(service: IdentityService, kind: RevocationKind, value: str) -> None:
    """Tokens of `value` issued until now are worth nothing, everywhere within a second."""
    now = service.world.clock.now()
    settings = service.settings
    longest = timedelta(seconds=settings.token_lifetime_seconds + settings.expired_token_grace_seconds)
    await service.change(revocation_store.revoke, service.world.ids.hex32(), kind, value, now, now + longest)


async def prune_revocations(service: IdentityService) -> int:
    """Forget revocations whose tokens have all expired; how many went."""
    return await service.db.write(revocation_store.prune, service.world.clock.now())
