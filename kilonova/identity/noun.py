"""Noun: what regions, services, policies, credentials and the like share: a table, a path, and the usual verbs.

A noun's own file says what it is made of and what is special: how one is created and changed. Finding it by the id in
the path (and whether the caller may), showing, listing and deleting are the same for all, and are written here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import invalid
from kilonova.http.request import Request
from kilonova.http.route import Handler, Route
from kilonova.identity import answers, store
from kilonova.identity.rules import ADMIN, READER, SYSTEM_OR_PROJECT, rule
from kilonova.policy.rules import Rule

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService

S = TypeVar("S", bound=msgspec.Struct)
Target = Mapping[str, Any]


def _anyones(noun: str, found: Any) -> Target:
    """The target of rules that ask only who the caller is."""
    return {}


def within(noun: str, found: Any) -> Target:
    """The target of rules that ask for `%(target.NOUN.…)s`."""
    return {"target": {noun: msgspec.structs.asdict(found)}} if found is not None else {}


@dataclass(frozen=True)
class Noun(Generic[S]):
    """A kind of thing. `name` stands in bodies, its plural in paths; `{name}_id` is the id in a path."""

    name: str
    table: sa.Table
    struct: type[S]
    plural: str = ""  # where it is not the name and an s
    prefix: str = "/v3"  # what its paths begin with
    called: str = ""  # in sentences, where it is not the name
    filters: tuple[str, ...] = ()  # columns that lists may be filtered by
    flags: tuple[str, ...] = ()  # those of them that are yes or no
    target: Callable[[str, Any], Target] = _anyones  # what rules are asked about
    get: Callable[[Connection, str], S | None] | None = None  # where the row alone is not the whole noun
    shown: Callable[[Request[Any], S], dict[str, Any]] | None = None  # without links; by default all fields
    admits_absence: tuple[str, ...] = ()  # methods that tell anybody that there is none of an id

    @property
    def many(self) -> str:
        """The key and the path segment of a collection."""
        return self.plural or f"{self.name}s"

    @property
    def path(self) -> str:
        """Of the collection."""
        return f"{self.prefix}/{self.many}"

    @property
    def one(self) -> str:
        """The path of one."""
        return f"{self.path}/{{{self.name}_id}}"

    async def find(self, service: IdentityService, id_: str) -> S | None:
        """The one of that id, or None."""
        if self.get is not None:
            return await service.db.read(self.get, id_)
        return await service.db.read(store.get, self.table, self.struct, id_)

    async def named(self, service: IdentityService, id_: str, field: str) -> S:
        """The one that a body names by its id; INVALID when there is none."""
        found = await self.find(service, id_)
        if found is None:
            raise invalid(f"Invalid input for field {field}: Could not find {self.called or self.name}: {id_[:64]}.")
        return found

    async def load(self, service: IdentityService, request: Request[Any], rule_name: str = "") -> S:
        """The one that the path names. 403 for who may not; 404 when there is none."""
        id_ = request.path[f"{self.name}_id"]
        found = await self.find(service, id_)
        if found is not None or request.method not in self.admits_absence:
            request.enforce(self.target(self.name, found), rule_name)
        if found is None:
            raise answers.missing(self.called or self.name, id_)
        return found

    def view(self, request: Request[Any], found: S) -> dict[str, Any]:
        """As clients see it, with its link."""
        shown = self.shown(request, found) if self.shown else msgspec.structs.asdict(found)
        shown["links"] = {"self": f"{request.origin}{self.path}/{shown['id']}"}
        return shown

    def body(self, request: Request[Any], found: S) -> dict[str, Any]:
        """The answer about one."""
        return {self.name: self.view(request, found)}

    async def show(self, service: IdentityService, request: Request[None]) -> dict[str, Any]:
        """One of them."""
        return self.body(request, await self.load(service, request))

    async def list_(self, service: IdentityService, request: Request[None]) -> dict[str, Any]:
        """All of them, or those that the filters leave."""
        request.enforce({})
        wanted = answers.filters(request, *self.filters, flags=self.flags)
        found = await service.db.read(store.listed, self.table, self.struct, wanted)
        return answers.collection(request, self.many, (self.view(request, one) for one in found))

    async def delete(self, service: IdentityService, request: Request[None]) -> None:
        """The one that the path names, and what hangs on it."""
        found = await self.load(service, request)
        await service.change(store.remove, self.table, found.id)  # type: ignore[attr-defined]

    def routes(
        self, create: Handler, update: Handler, bodies: tuple[type[Any], type[Any]], **instead: Handler
    ) -> tuple[Route, ...]:
        """The five usual routes; `instead` names handlers for `show`, `list_` and `delete` that differ."""
        name = self.name
        new: dict[str, Any] = {"body": bodies[0], "envelope": name, "success": 201}
        show, list_ = instead.get("show", self.show), instead.get("list_", self.list_)
        delete = instead.get("delete", self.delete)
        return (
            Route(method="POST", path=self.path, handler=create, policy=f"identity:create_{name}", **new),
            Route(method="GET", path=self.path, handler=list_, policy=f"identity:list_{self.many}"),
            Route(method="GET", path=self.one, handler=show, policy=f"identity:get_{name}"),
            Route(
                method="PATCH",
                path=self.one,
                handler=update,
                policy=f"identity:update_{name}",
                body=bodies[1],
                envelope=name,
            ),
            Route(method="DELETE", path=self.one, handler=delete, policy=f"identity:delete_{name}", success=204),
        )

    def rules(
        self, read: str = READER, write: str = ADMIN, scopes: tuple[str, ...] = SYSTEM_OR_PROJECT, writers: Any = None
    ) -> tuple[Rule, ...]:
        """The five usual rules: who reads, who writes, with tokens of which scopes (`writers` where it differs)."""
        name, path, one = self.name, self.path, self.one
        written = scopes if writers is None else writers
        return (
            rule(f"get_{name}", read, scopes, ("GET", one), ("HEAD", one)),
            rule(f"list_{self.many}", read, scopes, ("GET", path), ("HEAD", path)),
            rule(f"create_{name}", write, written, ("POST", path)),
            rule(f"update_{name}", write, written, ("PATCH", one)),
            rule(f"delete_{name}", write, written, ("DELETE", one)),
        )
