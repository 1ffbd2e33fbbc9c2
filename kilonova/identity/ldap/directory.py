"""Directory: what identity asks of one domain's directory, off the event loop, with an end to every wait.

A directory that does not answer is left alone for a moment: whoever asks meanwhile hears so at once, and the few
threads that may be waiting for it never grow more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import ldap
import msgspec

from kilonova.base.faults import Fault
from kilonova.base.world import World
from kilonova.identity.ldap import connection
from kilonova.identity.ldap.entries import Person, Reader, Team
from kilonova.identity.ldap.options import LdapOptions

T = TypeVar("T")
AT_ONCE = 3  # threads that may wait for one directory
LEFT_ALONE_SECONDS = 3.0  # after it did not answer
LOGIN_SECONDS = 10.0
LIST_SECONDS = 45.0


class _Outcome(msgspec.Struct):
    """What a thread brought back, also when nobody waits for it any more."""

    fault: Fault | None = None
    answer: Any = None


class Directory:
    """One domain's directory. Its answers are what stands there now."""

    def __init__(self, world: World, domain_id: str, options: LdapOptions) -> None:
        self.domain_id = domain_id
        self.options = options
        self._world = world
        self._reader = Reader(options)
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._idle: list[tuple[Any, float]] = []
        self._silent_until = float("-inf")

    async def people(self, *, name: str = "", local_id: str = "") -> list[Person]:
        """Users: all, those of a name, or the one of an id."""
        attribute, value = self._one(name, local_id, self.options.user_name_attribute, self.options.user_id_attribute)
        return await self._ask(LOGIN_SECONDS if attribute else LIST_SECONDS, self._people, attribute, value)

    async def teams(self, *, name: str = "", local_id: str = "") -> list[Team]:
        """Groups: all, those of a name, or the one of an id."""
        attribute, value = self._one(name, local_id, self.options.group_name_attribute, self.options.group_id_attribute)
        return await self._ask(LOGIN_SECONDS if attribute else LIST_SECONDS, self._teams, attribute, value)

    async def teams_of(self, person: Person) -> list[Team]:
        """The groups that a user is in."""
        return await self._ask(LOGIN_SECONDS, self._teams_of, person)

    async def admits(self, person: Person | None, password: str) -> bool:
        """Whether it takes the password for the user's. For nobody it is asked all the same."""
        if not password or "\0" in password:
            return False
        dn = person.dn if person else connection.nobodys_dn(self.options, self._world.ids.hex32())
        admitted = await self._ask(LOGIN_SECONDS, connection.admits, self.options, dn, password)
        return admitted and person is not None

    @asynccontextmanager
    async def in_time(self, seconds: float) -> AsyncIterator[None]:
        """All that is asked inside has an end together. UNAVAILABLE when it takes longer."""
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError:
            self._leave_alone()
            raise connection.silent(f"no answers in {seconds:.0f} s") from None

    async def close(self) -> None:
        """Let go of connections that nobody uses."""
        while self._idle:
            await self._world.blocking(connection.close, self._idle.pop()[0])

    @staticmethod
    def _one(name: str, local_id: str, name_attribute: str, id_attribute: str) -> tuple[str, str]:
        return (id_attribute, local_id) if local_id else (name_attribute, name) if name else ("", "")

    async def _ask(self, seconds: float, ask: Callable[..., T], *args: Any) -> T:
        """What `ask` returns, in a thread. UNAVAILABLE when it does not within `seconds`, or did not lately."""
        if self._world.clock.monotonic() < self._silent_until:
            raise connection.silent("it did not answer a moment ago")
        try:
            async with asyncio.timeout(seconds):
                await self._turn.acquire()
                outcome = await asyncio.shield(self._world.spawn(self._run(ask, args), "directory"))
        except TimeoutError:
            self._leave_alone()
            raise connection.silent(f"no answer in {seconds:.0f} s") from None
        if outcome.fault is not None:
            raise outcome.fault
        return outcome.answer  # type: ignore[no-any-return]

    async def _run(self, ask: Callable[..., Any], args: tuple[Any, ...]) -> _Outcome:
        """Give the turn back only when the thread is done, however long that takes."""
        try:
            return _Outcome(answer=await self._world.blocking(ask, *args))
        except Fault as fault:
            if fault.code == connection.AWAY:
                self._leave_alone()
            return _Outcome(fault)
        finally:
            self._turn.release()

    def _leave_alone(self) -> None:
        self._silent_until = self._world.clock.monotonic() + LEFT_ALONE_SECONDS

    # What follows runs in threads.

    def _people(self, attribute: str, value: str) -> list[Person]:
        return self._signed_in(lambda link: self._read_people(link, self._reader.users_filter(attribute, value)))

    def _read_people(self, link: Any, filter_: str) -> list[Person]:
        options, reader = self.options, self._reader
        found = connection.search(link, options, options.user_tree, filter_, reader.user_attributes)
        enabled = self._enabled(link)
        return [person for entry in found if (person := reader.person(entry, enabled)) is not None]

    def _enabled(self, link: Any) -> frozenset[str] | None:
        """Who is enabled, where a group says so; None where each entry says it itself."""
        options = self.options
        if not options.user_enabled_emulation:
            return None
        as_groups = options.user_enabled_emulation_use_group_config
        name = options.group_member_attribute if as_groups else "member"
        entry = connection.read_one(link, options, options.emulation_dn, [name])
        return frozenset(self._reader.members(entry[1], name)) if entry else frozenset()

    def _teams(self, attribute: str, value: str) -> list[Team]:
        return self._signed_in(lambda link: self._read_teams(link, self._reader.groups_filter(attribute, value)))

    def _teams_of(self, person: Person) -> list[Team]:
        return self._signed_in(lambda link: self._read_teams(link, self._reader.groups_of_filter(person)))

    def _read_teams(self, link: Any, filter_: str) -> list[Team]:
        options, reader = self.options, self._reader
        found = connection.search(link, options, options.group_tree, filter_, reader.group_attributes)
        return [team for entry in found if (team := reader.team(entry)) is not None]

    def _signed_in(self, ask: Callable[[Any], T]) -> T:
        """`ask` with a connection of our own account: one that waits for work, or a new one."""
        kept = self._kept()
        if kept is not None:
            try:
                return self._use(*kept, ask)
            except Fault as fault:
                if fault.code != connection.AWAY:
                    raise
        # one that waited may have been closed by the other side meanwhile: a new one tells
        return self._use(connection.sign_in(self.options), self._world.clock.monotonic(), ask)

    def _kept(self) -> tuple[Any, float] | None:
        while self._idle:
            link, made_at = self._idle.pop()
            if self._world.clock.monotonic() - made_at < self.options.pool_connection_lifetime:
                return link, made_at
            connection.close(link)
        return None

    def _use(self, link: Any, made_at: float, ask: Callable[[Any], T]) -> T:
        try:
            answer = ask(link)
        except ldap.LDAPError as error:
            connection.close(link)
            raise connection.away(error) from None
        except Fault:
            connection.close(link)
            raise
        if len(self._idle) < self.options.pool_size:
            self._idle.append((link, made_at))
        else:
            connection.close(link)
        return answer
