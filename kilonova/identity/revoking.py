"""Revoking tokens: everything that a user, project or domain got so far."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from kilonova.db.database import label, says
from kilonova.identity.token import revocation_store
from kilonova.identity.token.revocation_store import RevocationKind

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService

Revoked = tuple[RevocationKind, str]  # whose tokens: ("user", its id)


async def change_and_revoke(
    service: IdentityService, revoked: Revoked | None, unit: Callable[..., None], *args: Any
) -> None:
    """Write `unit`, and with it, in one transaction, the end of all tokens that `revoked` got so far.

    They are worth nothing everywhere within a second. None revokes nothing.
    """
    if revoked is None:
        await service.change(unit, *args)
        return
    now, settings = service.world.clock.now(), service.settings
    longest = timedelta(seconds=settings.token_lifetime_seconds + settings.expired_token_grace_seconds)
    row = (service.world.ids.hex32(), *revoked, now, now + longest)
    await service.change(_with_revocation, unit, args, row)


@says(lambda unit, args, row: label(unit, args))
def _with_revocation(
    connection: Connection,
    unit: Callable[..., None],
    args: tuple[Any, ...],
    row: tuple[str, RevocationKind, str, datetime, datetime],
) -> None:
    unit(connection, *args)
    revocation_store.revoke(connection, *row)


async def prune_revocations(service: IdentityService) -> int:
    """Forget revocations whose tokens have all expired; how many went."""
    return await service.db.write(revocation_store.prune, service.world.clock.now())
