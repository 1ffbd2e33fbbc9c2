"""SQL about the options of single domains; every value is sealed."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.identity.schema import domain_options

Sealed = dict[tuple[str, str], bytes]  # (group, option) → value


def read(connection: Connection, domain_id: str) -> Sealed:
    """All options of the domain."""
    table = domain_options.c
    found = sa.select(table.section, table.name, table.sealed).where(table.domain_id == domain_id)
    return {
        (row.section, row.name): row.sealed for row in connection.execute(found.order_by(table.section, table.name))
    }


def write(connection: Connection, domain_id: str, options: Sealed) -> None:
    """Set these options, and leave the others."""
    for group, option in options:
        delete(connection, domain_id, group, option)
    for (group, option), sealed in options.items():
        values = {"domain_id": domain_id, "section": group, "name": option, "sealed": sealed}
        connection.execute(domain_options.insert().values(**values))


def replace(connection: Connection, domain_id: str, options: Sealed) -> int:
    """These options and no others from now on; how many there were before."""
    before = delete(connection, domain_id)
    write(connection, domain_id, options)
    return before


def delete(connection: Connection, domain_id: str, group: str | None = None, option: str | None = None) -> int:
    """Forget the domain's options, of one group, or one; how many went."""
    table = domain_options
    gone = table.delete().where(table.c.domain_id == domain_id)
    if group is not None:
        gone = gone.where(table.c.section == group)
    if option is not None:
        gone = gone.where(table.c.name == option)
    return connection.execute(gone).rowcount
