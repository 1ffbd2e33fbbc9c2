"""How much a project, or a user in it, has of what quotas limit: counted from rows, never remembered."""

from __future__ import annotations

from sqlalchemy import Connection

from kilonova.compute.keypair import store as keypairs
from kilonova.compute.server import store as servers
from kilonova.compute.server_group import store as groups


def used(connection: Connection, project_id: str, user_id: str = "") -> dict[str, int]:
    """Counts by resource. Limits on one server's parts (metadata, files) and on lists of others count nothing.

    Key pairs belong to users: they count only when one is named.
    """
    instances, cores, ram = servers.usage(connection, project_id, user_id)
    made = groups.count(connection, project_id)
    pairs = keypairs.count(connection, user_id) if user_id else 0
    return {"instances": instances, "cores": cores, "ram": ram, "key_pairs": pairs, "server_groups": made}
