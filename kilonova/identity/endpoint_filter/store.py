"""SQL about endpoint groups, and which endpoints and groups a project is limited to."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.identity import store
from kilonova.identity.catalog.store import Endpoint
from kilonova.identity.project.store import Project, with_tags
from kilonova.identity.schema import endpoint_groups, endpoints, project_endpoint_groups, project_endpoints, projects


class EndpointGroup(msgspec.Struct):
    """The endpoints that have what `filters` says of service_id, region_id, interface, enabled."""

    id: str
    name: str
    description: str
    filters: dict[str, str | bool]

    def takes(self, endpoint: Endpoint) -> bool:
        """Whether the endpoint is in the group."""
        return all(getattr(endpoint, name, None) == value for name, value in self.filters.items())


def groups_of(connection: Connection, project_id: str) -> list[EndpointGroup]:
    """The endpoint groups that the project is limited to."""
    table = project_endpoint_groups
    mine = sa.select(table.c.endpoint_group_id).where(table.c.project_id == project_id)
    return store.listed(connection, endpoint_groups, EndpointGroup, ids=mine)


def endpoints_of(connection: Connection, project_id: str, known: Iterable[Endpoint] | None = None) -> list[Endpoint]:
    """The endpoints that the project is limited to, itself and by its groups; none: it sees all."""
    table = project_endpoints
    direct = set(connection.scalars(sa.select(table.c.endpoint_id).where(table.c.project_id == project_id)))
    groups = groups_of(connection, project_id)
    if not direct and not groups:
        return []
    among = store.listed(connection, endpoints, Endpoint) if known is None else known
    return [one for one in among if one.id in direct or any(group.takes(one) for group in groups)]


def members(connection: Connection, group: EndpointGroup) -> list[Endpoint]:
    """The endpoints in the group."""
    return [one for one in store.listed(connection, endpoints, Endpoint) if group.takes(one)]


def projects_with(connection: Connection, table: sa.Table, column: str, id_: str) -> list[Project]:
    """The projects that the endpoint or endpoint group is associated with."""
    mine = sa.select(table.c.project_id).where(table.c[column] == id_)
    return with_tags(connection, store.listed(connection, projects, Project, ids=mine))


def is_linked(connection: Connection, table: sa.Table, pair: dict[str, str]) -> bool:
    """Whether project and endpoint (or group) are associated."""
    found = sa.select(table.c.project_id).where(*(table.c[name] == value for name, value in pair.items()))
    return connection.execute(found).first() is not None


def link(connection: Connection, table: sa.Table, pair: dict[str, str]) -> None:
    """Associate them; they may have been before."""
    if not is_linked(connection, table, pair):
        connection.execute(table.insert().values(**pair))


def unlink(connection: Connection, table: sa.Table, pair: dict[str, str]) -> int:
    """0 when they were not associated."""
    gone = table.delete().where(*(table.c[name] == value for name, value in pair.items()))
    return connection.execute(gone).rowcount
