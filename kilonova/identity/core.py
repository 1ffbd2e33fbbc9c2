"""The identity service as its handlers see it: world, database, keys, tokens, passwords."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection

from kilonova.base.world import World
from kilonova.db.database import Database, label, says
from kilonova.identity import store
from kilonova.identity.federation.oidc import Providers
from kilonova.identity.ldap.directories import Directories
from kilonova.identity.passwords import Passwords
from kilonova.identity.settings import IdentitySettings
from kilonova.identity.token.keys import KeyRing
from kilonova.identity.token.validate import Tokens
from kilonova.saga.seal import Sealer

if TYPE_CHECKING:
    from kilonova.identity.host.join import HostAdmission

P = ParamSpec("P")
T = TypeVar("T")


class IdentityService:
    """What every handler is given. Made once per process; its database is migrated before.

    `admission` (set it on the made service): what a host is given when it joins; None where no host can.
    """

    def __init__(self, world: World, db: Database, sealer: Sealer, settings: IdentitySettings | None = None) -> None:
        self.world = world
        self.db = db
        self.sealer = sealer
        self.settings = settings or IdentitySettings()
        self.passwords = Passwords(world, self.settings.password_checks_at_once)
        self.keys = KeyRing(world, db, sealer, self.settings.fernet_keys_maximum, self.settings.token_provider)
        self.providers = Providers()
        self.tokens = Tokens(world, db, self.keys, self.settings)
        self.admission: HostAdmission | None = None
        self.directories = Directories(self)

    async def change(self, unit: Callable[Concatenate[Connection, P], T], *args: P.args, **named: P.kwargs) -> T:
        """`db.write` for what may change what a token says: copies and validators drop what they remember."""
        result = await self.db.write(_changing, lambda connection: unit(connection, *args, **named), label(unit, args))
        self.tokens.forget()
        return result


@says(lambda unit, words: words)
def _changing(connection: Connection, unit: Callable[[Connection], T], words: str) -> T:
    result = unit(connection)
    store.bump_version(connection)
    return result
