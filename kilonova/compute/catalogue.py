"""Catalogue over compute's own tables: what a server needs of flavors, key pairs, quotas and hosts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from sqlalchemy import Connection

from kilonova.base.faults import Fault, Kind, invalid
from kilonova.compute.aggregate import store as aggregates
from kilonova.compute.contract import Flavor
from kilonova.compute.core import Limits
from kilonova.compute.flavor import store as flavors
from kilonova.compute.host import store as hosts
from kilonova.compute.keypair import store as keypairs
from kilonova.compute.quota import store as quota
from kilonova.compute.server_group import store as groups


@dataclass(frozen=True)
class StoredCatalogue:
    """`core.Catalogue` as services run it. Hosts that no aggregate puts into a zone are in the default zone."""

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
        """The zone that an aggregate puts the host into, or the default zone."""
        return self.zones_of_hosts(connection)(host)

    def zones_of_hosts(self, connection: Connection) -> Callable[[str], str]:
        """host → zone, of all hosts by one reading."""
        known = aggregates.zones_by_host(connection)
        return lambda host: known.get(host, self.default_zone)

    def zones(self, connection: Connection) -> set[str]:
        """The zones that have a host."""
        zone_of = self.zones_of_hosts(connection)
        return {zone_of(host.name) for host in hosts.every(connection)}

    def join_group(self, connection: Connection, group_id: str, project_id: str, server_id: str) -> None:
        """The server is a member; INVALID when the project has no such group, OVER_QUOTA when that is full."""
        try:
            groups.join(connection, group_id, project_id, server_id)
        except Fault as fault:
            raise _the_requests_mistake(fault) from fault

    def leave_groups(self, connection: Connection, server_id: str) -> None:
        """The server is a member of none."""
        groups.leave(connection, server_id)

    def check_group(self, connection: Connection, server_id: str, host: str) -> None:
        """NO_CAPACITY when the server's group forbids the host by now; nobody else places a member meanwhile."""
        groups.check_place(connection, server_id, host)


def _the_requests_mistake(fault: Fault) -> Fault:
    return invalid(fault.message, code=fault.code) if fault.kind is Kind.NOT_FOUND else fault
