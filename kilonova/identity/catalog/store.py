"""SQL about regions, services and endpoints."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.identity.contract import CatalogEndpoint, CatalogService, ServiceProviderRef
from kilonova.identity.schema import (
    endpoints,
    project_endpoint_groups,
    project_endpoints,
    regions,
    service_providers,
    services,
)


class Region(msgspec.Struct):
    """A part of the cloud with endpoints of its own."""

    id: str
    description: str = ""
    parent_region_id: str | None = None


class Service(msgspec.Struct):
    """A service of the catalog."""

    id: str
    type: str
    name: str = ""
    description: str = ""
    enabled: bool = True


class Endpoint(msgspec.Struct):
    """One URL of a service."""

    id: str
    service_id: str
    region_id: str | None
    interface: str
    url: str
    name: str = ""
    enabled: bool = True


class Templates(msgspec.Struct):
    """The catalog before it is made for a project, and the other clouds that tokens name.

    `is_filtered`: some projects see a part of the catalog only.
    """

    services: list[CatalogService]
    is_filtered: bool
    providers: list[ServiceProviderRef] = []


def read_templates(connection: Connection) -> Templates:
    """Every enabled service that has an enabled endpoint, URLs as templates."""
    found = (
        sa.select(
            services.c.id,
            services.c.type,
            services.c.name,
            endpoints.c.id.label("endpoint_id"),
            endpoints.c.interface,
            endpoints.c.region_id,
            endpoints.c.url,
        )
        .join(endpoints, endpoints.c.service_id == services.c.id)
        .where(services.c.enabled, endpoints.c.enabled)
        .order_by(services.c.id, endpoints.c.id)
    )
    made: dict[str, CatalogService] = {}
    for row in connection.execute(found):
        service = made.setdefault(row.id, CatalogService([], row.id, row.type, row.name))
        endpoint = CatalogEndpoint(row.endpoint_id, row.interface, row.region_id, row.url, row.region_id)
        service.endpoints.append(endpoint)
    return Templates(list(made.values()), _is_filtered(connection), _providers(connection))


def _providers(connection: Connection) -> list[ServiceProviderRef]:
    table = service_providers.c
    found = sa.select(table.auth_url, table.id, table.sp_url).where(table.enabled).order_by(table.id)
    return [ServiceProviderRef(*row) for row in connection.execute(found)]


def _is_filtered(connection: Connection) -> bool:
    return any(
        connection.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first() is not None
        for table in (project_endpoints, project_endpoint_groups)
    )


def is_region_used(connection: Connection, region_id: str) -> bool:
    """Whether endpoints or other regions refer to it."""
    children = sa.select(regions.c.id).where(regions.c.parent_region_id == region_id).limit(1)
    inside = sa.select(endpoints.c.id).where(endpoints.c.region_id == region_id).limit(1)
    return connection.execute(children).first() is not None or connection.execute(inside).first() is not None


def ensure_region(connection: Connection, region_id: str) -> None:
    """A region of that id, made when there is none."""
    if connection.execute(sa.select(regions.c.id).where(regions.c.id == region_id)).first() is None:
        connection.execute(regions.insert().values(id=region_id, description="", parent_region_id=None))
