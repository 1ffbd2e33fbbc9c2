"""SQL about federation: providers, protocols, mappings, and the users that came from there."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import unauthenticated
from kilonova.identity import store
from kilonova.identity.contract import FederationRef, GroupId, ProtocolRef, ProviderRef
from kilonova.identity.domain.store import Domain
from kilonova.identity.group import store as group_store
from kilonova.identity.names import name_key
from kilonova.identity.schema import (
    assignments,
    domains,
    federated_memberships,
    federated_users,
    groups,
    identity_providers,
    mappings,
    memberships,
    projects,
    protocols,
    roles,
    users,
)
from kilonova.identity.user import store as user_store


class Provider(msgspec.Struct):
    """Who vouches for users. `remote_ids` are the issuers of its tokens; its users belong to the domain."""

    id: str
    domain_id: str
    description: str | None
    enabled: bool
    remote_ids: list[str]


class Protocol(msgspec.Struct):
    """A way to come from a provider, and the mapping for it."""

    id: str
    provider_id: str
    mapping_id: str


class RuleSet(msgspec.Struct):
    """A mapping: rules as they were given."""

    id: str
    rules: list[dict[str, Any]]


class Door(msgspec.Struct):
    """What a login by federation needs to know."""

    provider: Provider
    protocol_id: str
    rules: list[dict[str, Any]]


def find_provider(connection: Connection, id_: str) -> Provider | None:
    """The provider of that id."""
    return store.get(connection, identity_providers, Provider, id_)


def create_provider(connection: Connection, new: Provider, domain: Domain | None, taken: str) -> None:
    """The provider, and with it the new domain of its users where it gets one."""
    if domain is not None:
        store.insert(connection, domains, domain, taken)
    store.insert(connection, identity_providers, new, taken)


def find_mapping(connection: Connection, id_: str) -> RuleSet | None:
    """The mapping of that id."""
    return store.get(connection, mappings, RuleSet, id_)


def protocols_of(connection: Connection, provider_id: str, id_: str = "") -> list[Protocol]:
    """Protocols of a provider; only that of an id."""
    wanted = [("provider_id", "equals", provider_id), ("id", "equals", id_)]
    return store.listed(connection, protocols, Protocol, [one for one in wanted if one[2]])


def change_protocol(connection: Connection, provider_id: str, id_: str, mapping_id: str) -> None:
    """Another mapping for a protocol."""
    one = protocols.update().where(protocols.c.id == id_, protocols.c.provider_id == provider_id)
    connection.execute(one.values(mapping_id=mapping_id))


def delete_protocol(connection: Connection, provider_id: str, id_: str) -> None:
    """The protocol; users that came by it stay, and their tokens end."""
    connection.execute(protocols.delete().where(protocols.c.id == id_, protocols.c.provider_id == provider_id))


def delete_provider(connection: Connection, id_: str) -> None:
    """The provider, and the users that came from it."""
    mine = sa.select(federated_users.c.user_id).where(federated_users.c.provider_id == id_)
    for user_id in list(connection.scalars(mine)):
        user_store.delete(connection, user_id)
    store.remove(connection, identity_providers, id_)


def is_mapped(connection: Connection, mapping_id: str) -> bool:
    """Whether a protocol uses the mapping."""
    found = sa.select(protocols.c.id).where(protocols.c.mapping_id == mapping_id)
    return connection.execute(found).first() is not None


def find_door(connection: Connection, provider_id: str, protocol_id: str) -> Door | None:
    """The provider, when it and its domain are enabled, with the mapping's rules."""
    provider = find_provider(connection, provider_id)
    found = protocols_of(connection, provider_id, protocol_id)
    if provider is None or not provider.enabled or not found:
        return None
    enabled = sa.select(domains.c.id).where(domains.c.id == provider.domain_id, domains.c.enabled)
    rules = find_mapping(connection, found[0].mapping_id)
    if rules is None or connection.execute(enabled).first() is None:
        return None
    return Door(provider, protocol_id, rules.rules)


def find_local(connection: Connection, id_: str, name: str, domain_id: str, domain_name: str) -> str | None:
    """The id of a user that is here already, when it is enabled and no provider's."""
    found = sa.select(users.c.id).join(domains, domains.c.id == users.c.domain_id).where(users.c.enabled)
    if id_:
        found = found.where(users.c.id == id_)
    else:
        of = domains.c.id == domain_id if domain_id else domains.c.name_key == name_key(domain_name)
        found = found.where(users.c.name_key == name_key(name), of)
    return connection.scalar(found.where(users.c.id.not_in(sa.select(federated_users.c.user_id))))


def find_group(connection: Connection, id_: str, name: str, domain_id: str, domain_name: str) -> str | None:
    """The id of a group by id, or by name and domain."""
    if id_:
        return connection.scalar(sa.select(groups.c.id).where(groups.c.id == id_))
    of = domains.c.id == domain_id if domain_id else domains.c.name_key == name_key(domain_name)
    found = sa.select(groups.c.id).join(domains, domains.c.id == groups.c.domain_id)
    return connection.scalar(found.where(groups.c.name_key == name_key(name), of))


def take_in(connection: Connection, door: Door, unique_id: str, new: user_store.NewUser, group_ids: set[str]) -> str:
    """The id of the provider's user, made when it is new, in the groups of this login and no others of earlier ones.

    UNAUTHENTICATED when its name is somebody else's: nobody becomes another by choosing a name.
    """
    of = (federated_users.c.provider_id == door.provider.id, federated_users.c.unique_id == unique_id)
    user_id = connection.scalar(sa.select(federated_users.c.user_id).where(*of))
    taken = sa.select(users.c.id).where(users.c.domain_id == new.domain_id, users.c.name_key == name_key(new.name))
    holder = connection.scalar(taken)
    if holder is not None and holder != user_id:
        raise unauthenticated("The name that your provider gives you belongs to another user of the domain.")
    if user_id is None:
        user_id = new.id
        store.insert(connection, users, new, "The user exists already.")
        row = {"provider_id": door.provider.id, "unique_id": unique_id, "user_id": user_id}
        connection.execute(federated_users.insert().values(**row, protocol_id=door.protocol_id))
    else:
        store.change(connection, users, user_id, {"name": new.name, "extra": new.extra})
        mine = federated_users.update().where(federated_users.c.user_id == user_id)
        connection.execute(mine.values(protocol_id=door.protocol_id))
    _join(connection, user_id, group_ids)
    return user_id


def _join(connection: Connection, user_id: str, group_ids: set[str]) -> None:
    """The groups that federation gave become these; those that an administrator gave stay."""
    table = federated_memberships
    before = set(connection.scalars(sa.select(table.c.group_id).where(table.c.user_id == user_id)))
    for group_id in before - group_ids:
        gone = (memberships.c.group_id == group_id, memberships.c.user_id == user_id)
        connection.execute(memberships.delete().where(*gone))
        connection.execute(table.delete().where(table.c.group_id == group_id, table.c.user_id == user_id))
        store.bump_version(connection)
    for group_id in group_ids:
        if not group_store.is_member(connection, group_id, user_id):
            group_store.add(connection, group_id, user_id)
            store.bump_version(connection)
            if group_id not in before:
                connection.execute(table.insert().values(user_id=user_id, group_id=group_id))


def give_project(connection: Connection, domain_id: str, new_id: str, name: str) -> str:
    """The id of the domain's project of that name, made when it is not there."""
    mine = sa.select(projects.c.id).where(projects.c.domain_id == domain_id, projects.c.name_key == name_key(name))
    found = connection.scalar(mine)
    if found is None:
        row = {"id": new_id, "domain_id": domain_id, "parent_id": domain_id, "name": name, "name_key": name_key(name)}
        connection.execute(projects.insert().values(**row, description="", enabled=True, extra={}, options={}))
    return found or new_id


def give_role(connection: Connection, user_id: str, project_id: str, role_name: str) -> bool:
    """The user has the cloud's role of that name on the project; False when there is no such role."""
    role_id = connection.scalar(
        sa.select(roles.c.id).where(roles.c.domain_id == "", roles.c.name_key == name_key(role_name))
    )
    if role_id is None:
        return False
    row = {"actor": "user", "actor_id": user_id, "scope": "project", "scope_id": project_id, "role_id": role_id}
    same = sa.and_(*(assignments.c[key] == value for key, value in row.items()), assignments.c.inherited.is_(False))
    if connection.execute(sa.select(assignments.c.role_id).where(same)).first() is None:
        connection.execute(assignments.insert().values(**row, inherited=False))
        store.bump_version(connection)
    return True


def federation_of(connection: Connection, user_id: str) -> FederationRef | None:
    """Where the user came from, for its tokens; None when its provider is disabled, or its protocol gone."""
    came = federated_users.c
    found = (
        sa.select(came.provider_id, came.protocol_id)
        .join(identity_providers, identity_providers.c.id == came.provider_id)
        .join(protocols, sa.and_(protocols.c.provider_id == came.provider_id, protocols.c.id == came.protocol_id))
        .where(came.user_id == user_id, identity_providers.c.enabled)
    )
    row = connection.execute(found).first()
    if row is None:
        return None
    mine = sa.select(federated_memberships.c.group_id).where(federated_memberships.c.user_id == user_id)
    of = [GroupId(id_) for id_ in connection.scalars(mine.order_by(federated_memberships.c.group_id))]
    return FederationRef(ProviderRef(row.provider_id), ProtocolRef(row.protocol_id), of)
