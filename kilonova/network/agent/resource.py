"""/v2.0/agents: list, show, switch off, forget. For administrators."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from kilonova.base.faults import Fault, conflict, not_found
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.network import door
from kilonova.network.agent import store
from kilonova.network.agent.store import Agent
from kilonova.network.core import NetworkService
from kilonova.policy import personas


class AgentChange(msgspec.Struct, forbid_unknown_fields=True):
    """PUT: what may change."""

    admin_state_up: bool | UnsetType = UNSET
    description: Annotated[str, Meta(max_length=255)] | UnsetType = UNSET


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def _view(service: NetworkService, agent: Agent) -> dict[str, Any]:
    silent = service.world.clock.now() - agent.seen_at
    configurations: dict[str, Any] = dict(agent.configurations)
    if agent.tunnel_ip:
        configurations["tunneling_ip"] = agent.tunnel_ip
    return {
        "id": agent.id,
        "agent_type": agent.agent_type,
        "binary": agent.binary,
        "host": agent.host,
        "topic": agent.topic,
        "admin_state_up": agent.admin_state_up,
        "alive": silent <= timedelta(seconds=service.settings.agent_down_seconds),
        "availability_zone": None,
        "configurations": configurations,
        "description": agent.description,
        "created_at": _time(agent.created_at),
        "started_at": _time(agent.started_at),
        "heartbeat_timestamp": _time(agent.seen_at),
        "resources_synced": None,
    }


def _absent(id_: str) -> Fault:
    return not_found("Agent", id_, code="AgentNotFound")


async def index(service: NetworkService, request: Request[Any]) -> dict[str, Any]:
    """GET /agents"""
    alive = request.query.boolean("alive")
    request.query.pairs = [(key, value) for key, value in request.query.pairs if key != "alive"]
    wanted = door.wanted_from(request, store.LISTING, "get_agent")
    shown = [_view(service, agent) for agent in await service.db.read(store.list_agents, wanted)]
    return door.answer_list(request, "agents", [one for one in shown if alive in (None, one["alive"])], wanted)


async def _found(service: NetworkService, request: Request[Any]) -> Agent:
    door.see(request, "get_agent", door.own(request), _absent(request.path["id"]))
    agent = await service.db.read(store.find_agent, request.path["id"])
    if agent is None:
        raise _absent(request.path["id"])
    return agent


async def show(service: NetworkService, request: Request[Any]) -> dict[str, Any]:
    """GET /agents/{id}"""
    return {"agent": door.chosen(request, _view(service, await _found(service, request)))}


async def update(service: NetworkService, request: Request[AgentChange]) -> dict[str, Any]:
    """PUT /agents/{id}"""
    agent = await _found(service, request)
    request.enforce(door.own(request))
    values = door.given(request.body, "admin_state_up", "description")
    changed = await service.change(store.update_agent, agent.id, values)
    return {"agent": _view(service, changed or agent)}


async def delete(service: NetworkService, request: Request[Any]) -> None:
    """DELETE /agents/{id}"""
    agent = await _found(service, request)
    request.enforce(door.own(request))
    if _view(service, agent)["alive"]:
        raise conflict(f"Agent {agent.id} is alive.", hint="Stop it first; it would come back.", code="AgentAlive")
    await service.change(store.delete_agent, agent.id)


RULES = door.rules(dict.fromkeys(("get_agent", "update_agent", "delete_agent"), personas.ADMIN_ONLY), about="agents")
_ONE = "/v2.0/agents/{id}"
ROUTES = (
    Route(method="GET", path="/v2.0/agents", handler=index, policy="get_agent"),
    Route(method="GET", path=_ONE, handler=show, policy="get_agent"),
    Route(method="PUT", path=_ONE, handler=update, policy="update_agent", body=AgentChange, envelope="agent"),
    Route(method="DELETE", path=_ONE, handler=delete, policy="delete_agent", success=204),
)
