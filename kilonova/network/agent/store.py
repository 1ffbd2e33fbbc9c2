"""Agents in the database: who reports, from where, and whom to choose."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.db.statements import insert, read, update
from kilonova.network import rows_store, schema
from kilonova.network.contract import AgentReport
from kilonova.network.rows_store import Listing, Wanted
from kilonova.network.work import Work

_agents = schema.agents
_ports = schema.ports
L2, L3, DHCP = "L2 agent", "L3 agent", "DHCP agent"


class Agent(msgspec.Struct, kw_only=True):
    """An agent as it last reported."""

    id: str
    agent_type: str
    binary: str
    host: str
    topic: str
    tunnel_ip: str
    physical_networks: list[str]
    configurations: dict[str, str]
    admin_state_up: bool
    description: str
    created_at: datetime
    started_at: datetime
    seen_at: datetime


def report(work: Work, told: AgentReport) -> bool:
    """Write the heartbeat; whether the agent is new or was silent for long, so that work may be waiting for it."""
    now = work.draw.now()
    mine = {"agent_type": told.agent_type, "host": told.host}
    earlier = read(work.connection, _SEEN, mine)
    values: dict[str, Any] = {
        "binary": told.binary,
        "topic": told.topic,
        "tunnel_ip": told.tunnel_ip,
        "physical_networks": list(told.physical_networks),
        "configurations": told.configurations,
        "seen_at": now,
    }
    if earlier:
        update(work.connection, _agents, mine, values)
        return bool(earlier[0][0] < now - timedelta(seconds=work.settings.agent_down_seconds))
    stamps = {"created_at": now, "started_at": now, "description": ""}
    insert(work.connection, _agents, {"id": work.draw.id(), "admin_state_up": True, **mine, **values, **stamps})
    return True


_SEEN = (_agents.c.seen_at,)
_BY_HOST = (_agents.c.host,)


def alive(work: Work, agent_type: str) -> list[Agent]:
    """Agents of a type that reported lately and are not switched off."""
    agents = rows_store.read_rows(work.connection, _agents, Agent, {"agent_type": agent_type}, order=_BY_HOST)
    return [agent for agent in agents if lives(work, agent.seen_at, agent.admin_state_up)]


def lives(work: Work, seen_at: datetime | None, admin_state_up: bool | None) -> bool:
    """Whether an agent (None: there is none) reported lately and is not switched off."""
    since = work.draw.now() - timedelta(seconds=work.settings.agent_down_seconds)
    return bool(admin_state_up) and seen_at is not None and seen_at >= since


def least_used(work: Work, agent_type: str) -> str:
    """The host of the living agent with the fewest routers or networks; "" when none lives."""
    hosts = [agent.host for agent in alive(work, agent_type)]
    if not hosts:
        return ""
    table = schema.routers if agent_type == L3 else _ports
    counted = sa.select(table.c.host, sa.func.count()).where(table.c.host.in_(hosts)).group_by(table.c.host)
    if agent_type == DHCP:
        counted = counted.where(_ports.c.device_owner == "network:dhcp")
    busy: dict[str, int] = dict(work.connection.execute(counted).all())
    return min(hosts, key=lambda host: (busy.get(host, 0), host))


def _made(result: sa.Result[Any]) -> list[Agent]:
    return [Agent(**row._mapping) for row in result]


LISTING = Listing(
    _agents,
    Agent,
    {name: _agents.c[name] for name in ("id", "agent_type", "binary", "host", "topic", "admin_state_up")},
    lambda project_id: sa.true(),
)


def list_agents(connection: Connection, wanted: Wanted) -> Sequence[Agent]:
    """Agents, for administrators."""
    return rows_store.listed(connection, LISTING, wanted)


def find_agent(connection: Connection, id_: str) -> Agent | None:
    """One agent."""
    found = _made(connection.execute(sa.select(_agents).where(_agents.c.id == id_)))
    return found[0] if found else None


def update_agent(work: Work, id_: str, values: dict[str, Any]) -> Agent | None:
    """Switch an agent on or off, or describe it."""
    if values:
        work.connection.execute(_agents.update().where(_agents.c.id == id_).values(**values))
    return find_agent(work.connection, id_)


def delete_agent(work: Work, id_: str) -> None:
    """Forget an agent; it comes back when it reports."""
    work.connection.execute(_agents.delete().where(_agents.c.id == id_))
