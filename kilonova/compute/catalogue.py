"""Catalogue over compute's own tables: what a server needs of flavors, key pairs, quotas and hosts."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from sqlalchemy import Connection

from kilonova.base.faults import Fault, Kind, invalid
from kilonova.compute.contract import Flavor
from kilonova.compute.core import Limits
from kilonova.compute.flavor import store as flavors
from kilonova.compute.host import store as hosts
from kilonova.compute.keypair import store as keypairs
from kilonova.compute.quota import store as quota


@dataclass(frozen=True)
class StoredCatalogue:
    """`core.Catalogue` as services run it. Every host is in the default zone, and there are no server groups."""

    default_zone: str = "nova"

    def flavor(self, connection: Connection, flavor_id: str, project_id: str) -> Flavor:
        """The flavor as a server keeps it, when the project may use it; INVALID otherwise."""
        try:
            return flavors.get_flavor(connection, flavor_id, project_id, admin=False)
        except Fault as fault:
            raise _the_requests_mistake(fault) from fault

    def public_key(self, connection: Connection, user_id: str, name: str) -> str:
        """The key pair's public key; INVALID when the user has none of that name."""
        try:
            return keypairs.get_keypair(connection, user_id, name).public_key
        except Fault as fault:
            raise invalid("Invalid key_name provided.", hint="See `openstack keypair list`.") from fault

    def lock_limits(self, connection: Connection, project_id: str) -> Limits:
        """The project's limits; until the unit ends no other unit may pass here for this project."""
        quota.lock(connection, project_id)
        return self.limits(connection, project_id)

    def limits(self, connection: Connection, project_id: str) -> Limits:
        """The project's limits, without the lock."""
        return msgspec.convert(quota.limits_of(connection, project_id), Limits)

    def user_limits(self, connection: Connection, project_id: str, user_id: str) -> Limits | None:
        """The limits of one user in the project, when any were set for that user."""
        if not quota.user_limits(connection, project_id, user_id):
            return None
        return msgspec.convert(quota.limits_of(connection, project_id, user_id), Limits)

    def zone_of(self, connection: Connection, host: str) -> str:
        """The default zone."""
        return self.default_zone

    def zones(self, connection: Connection) -> set[str]:
        """The default zone, once it has a host."""
        return {self.default_zone} if hosts.every(connection) else set()

    def join_group(self, connection: Connection, group_id: str, project_id: str, server_id: str) -> None:
        """INVALID: nobody can have made a group."""
        raise invalid(f"Server group {group_id} could not be found.")

    def leave_groups(self, connection: Connection, server_id: str) -> None:
        """Nothing: no server is in a group."""


def _the_requests_mistake(fault: Fault) -> Fault:
    return invalid(fault.message, code=fault.code) if fault.kind is Kind.NOT_FOUND else fault
