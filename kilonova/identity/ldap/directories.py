"""Directories: which domains have one, by their configuration, as it is now in every process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kilonova.base.faults import Fault, Kind, forbidden, unavailable
from kilonova.identity.ldap import store as entry_store
from kilonova.identity.ldap.options import DRIVER, LdapOptions, read_options
from kilonova.identity.token.bodies import PasswordUser

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService
    from kilonova.identity.ldap.directory import Directory


class Directories:
    """The directories of one process. For domains without one, asking costs a look into an empty dictionary."""

    def __init__(self, service: IdentityService) -> None:
        self._service = service
        self._version = -1
        self._options: dict[str, LdapOptions | Fault] = {}
        self._made: dict[str, Directory] = {}
        self._refreshed_at: dict[str, float] = {}

    async def of(self, domain_id: str) -> Directory | None:
        """The domain's directory; None when its users are here. UNAVAILABLE when it cannot be used."""
        options = (await self._configured()).get(domain_id)
        if options is None:
            return None
        if isinstance(options, Fault):
            raise options
        known = self._made.get(domain_id)
        if known is None or known.options != options:
            self._forget(domain_id)
            known = self._made[domain_id] = _made(self._service, domain_id, options)
        return known

    def _forget(self, domain_id: str) -> None:
        """Let go of the connections of a directory that is another now, or none."""
        if (old := self._made.pop(domain_id, None)) is not None:
            self._service.world.spawn(old.close(), "directory closes")

    async def every(self) -> list[str]:
        """The ids of all domains that have one."""
        return sorted(await self._configured())

    async def due(self) -> list[str]:
        """The ids of those domains whose rows are to be brought into line again by now."""
        now, every = self._service.world.clock.monotonic(), self._service.settings.directory_refresh_seconds
        found = [id_ for id_ in await self.every() if now - self._refreshed_at.get(id_, float("-inf")) >= every]
        self._refreshed_at |= dict.fromkeys(found, now)
        return found

    async def is_one(self, domain_id: str) -> bool:
        """Whether the domain's users and groups are in a directory."""
        return domain_id in await self._configured()

    async def asked(self, user: PasswordUser) -> Directory | None:
        """The directory where somebody who logs in would be."""
        if not await self._configured():
            return None
        if user.id:
            return await self.of(await self._service.db.read(entry_store.domain_of_user, user.id))
        domain = user.domain
        if domain is None or not (domain.id or domain.name):
            return None
        return await self.of(domain.id or await self._service.db.read(entry_store.domain_named, domain.name))

    async def must_be_here(self, domain_id: str, what: str) -> None:
        """FORBIDDEN when what shall be changed is in a directory."""
        if await self.is_one(domain_id):
            raise forbidden(
                f"The {what} of this domain are in a directory (LDAP), which is read and never written here.",
                hint="Change it there.",
            )

    async def _configured(self) -> dict[str, LdapOptions | Fault]:
        version = await self._service.tokens.version()
        if version != self._version:
            found = await self._service.db.read(entry_store.configured)
            self._options = {
                domain_id: options
                for domain_id, sealed in found.items()
                if (options := self._read(domain_id, sealed)) is not None
            }
            self._version = version
            for gone in self._made.keys() - self._options.keys():
                self._forget(gone)
            self._refreshed_at = {id_: at for id_, at in self._refreshed_at.items() if id_ in self._options}
        return self._options

    def _read(self, domain_id: str, sealed: dict[tuple[str, str], bytes]) -> LdapOptions | Fault | None:
        opened = {place: self._service.sealer.open(value)["value"] for place, value in sealed.items()}
        if opened.get(("identity", "driver")) != DRIVER:
            return None
        try:
            return read_options({name: value for (section, name), value in opened.items() if section == "ldap"})
        except Fault as fault:
            return Fault(Kind.UNAVAILABLE, f"The configuration of domain {domain_id} is wrong: {fault.message}")


def _made(service: IdentityService, domain_id: str, options: LdapOptions) -> Directory:
    try:
        from kilonova.identity.ldap.directory import Directory
    except ImportError as error:
        raise unavailable(
            "This installation cannot read directories.",
            hint="Install it with the extra `ldap`: pip install 'kilonova[ldap]'.",
            inside=str(error),
        ) from None
    return Directory(service.world, domain_id, options)
