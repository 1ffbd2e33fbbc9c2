"""The network service's API: its routes, its rules, its app."""

from __future__ import annotations

from kilonova.http.app import App
from kilonova.http.contract import Authenticator, Enforcer
from kilonova.http.faults import NETWORK
from kilonova.network.agent import resource as agent
from kilonova.network.core import NetworkService
from kilonova.network.extension import resource as extension
from kilonova.network.floating_ip import resource as floating_ip
from kilonova.network.network import resource as network
from kilonova.network.port import resource as port
from kilonova.network.quota import resource as quota
from kilonova.network.router import resource as router
from kilonova.network.security_group import resource as security_group
from kilonova.network.subnet import resource as subnet
from kilonova.network.tag import resource as tag

__all__ = ["MIGRATIONS", "ROUTES", "RULES", "NetworkService", "network_app"]

MIGRATIONS = "kilonova.network.migrations"
_NOUNS = (network, subnet, port, router, floating_ip, security_group, agent, quota, tag, extension)
ROUTES = tuple(route for noun in _NOUNS for route in noun.ROUTES)
RULES = tuple(rule for noun in _NOUNS for rule in noun.RULES)


def network_app(service: NetworkService, authenticator: Authenticator, enforcer: Enforcer) -> App:
    """The API as an ASGI application."""
    app = App(
        service.world,
        service,
        ROUTES,
        participant="neutron",
        style=NETWORK,
        authenticator=authenticator,
        enforcer=enforcer,
    )
    app.lenient = True  # clients send numbers as strings, and network has always taken them
    return app
