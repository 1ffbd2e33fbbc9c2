"""SQL about policies and what they are associated with."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.identity import store
from kilonova.identity.catalog.store import Endpoint
from kilonova.identity.schema import endpoints, policies, policy_associations, regions


class PolicyDocument(msgspec.Struct):
    """A document that a service may ask for; identity does not read it."""

    id: str
    type: str
    blob: str


class Association(msgspec.Struct, frozen=True):
    """Whom a policy is for: an endpoint; or a service, in one region or (then `region_id` is "") in all."""

    endpoint_id: str = ""
    service_id: str = ""
    region_id: str = ""


def _where(one: Association) -> sa.ColumnElement[bool]:
    return sa.and_(*(policy_associations.c[name] == value for name, value in msgspec.structs.asdict(one).items()))


def policy_of(connection: Connection, one: Association) -> str:
    """The id of the policy that is for exactly this, or ""."""
    return connection.scalar(sa.select(policy_associations.c.policy_id).where(_where(one))) or ""


def associate(connection: Connection, one: Association, policy_id: str) -> None:
    """The policy is for this from now on, and no other."""
    dissociate(connection, one)
    connection.execute(policy_associations.insert().values(**msgspec.structs.asdict(one), policy_id=policy_id))


def dissociate(connection: Connection, one: Association) -> None:
    """No policy is for exactly this."""
    connection.execute(policy_associations.delete().where(_where(one)))


def effective_policy(connection: Connection, endpoint: Endpoint) -> PolicyDocument | None:
    """The policy of an endpoint: its own; else its service's in its region or the nearest above; else its service's."""
    asked = [Association(endpoint_id=endpoint.id)]
    region_id, seen = endpoint.region_id, set[str]()
    while region_id and region_id not in seen:
        seen.add(region_id)
        asked.append(Association(service_id=endpoint.service_id, region_id=region_id))
        region_id = connection.scalar(sa.select(regions.c.parent_region_id).where(regions.c.id == region_id))
    asked.append(Association(service_id=endpoint.service_id))
    for one in asked:
        if policy_id := policy_of(connection, one):
            return store.get(connection, policies, PolicyDocument, policy_id)
    return None


def endpoints_of(connection: Connection, policy_id: str) -> list[Endpoint]:
    """The endpoints whose policy it is in effect."""
    known = store.listed(connection, endpoints, Endpoint)
    return [one for one in known if (found := effective_policy(connection, one)) and found.id == policy_id]
