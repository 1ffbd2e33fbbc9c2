"""/, /v2.0 and /v2.0/extensions: what this API speaks, and only what is really there."""

from __future__ import annotations

from typing import Any

from kilonova.base.faults import not_found
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.network.core import NetworkService
from kilonova.policy.rules import Rule

# alias: (name, description)
EXTENSIONS = {
    "agent": ("agent", "The agent management extension."),
    "allowed-address-pairs": ("Allowed Address Pairs", "Provides allowed address pairs"),
    "binding": ("Port Binding", "Expose port bindings of a virtual port to external application"),
    "dns-integration": ("DNS Integration", "Provides integration with DNS."),
    "empty-string-filtering": ("Empty String Filtering Extension", "Allow filtering by attributes with empty string"),
    "ext-gw-mode": ("Neutron L3 Configurable external gateway mode", "Source NAT can be switched per router"),
    "external-net": ("Neutron external network", "Adds external network attribute to network resource."),
    "extra_dhcp_opt": ("Neutron Extra DHCP options", "Extra options configuration for DHCP."),
    "extraroute": ("Neutron Extra Route", "Extra routes configuration for L3 router"),
    "extraroute-atomic": ("Atomically add/remove extra routes", "Edit extra routes of a router on server side"),
    "filter-validation": ("Filter parameters validation", "Provides validation on filter parameters."),
    "fip-port-details": ("Floating IP Port Details Extension", "Add port_details attribute to Floating IP resource"),
    "ip-substring-filtering": ("IP address substring filtering", "Provides IP address substring filtering"),
    "net-mtu": ("Network MTU", "Provides MTU attribute for a network resource."),
    "net-mtu-writable": ("Network MTU (writable)", "Provides a writable MTU attribute for a network resource."),
    "pagination": ("Pagination support", "Extension that indicates that pagination is enabled."),
    "port-security": ("Port Security", "Provides port security"),
    "port-security-groups-filtering": ("Port filtering on security groups", "Provides security groups filtering"),
    "project-id": ("project_id field enabled", "Extension that indicates that project_id field is enabled."),
    "provider": ("Provider Network", "Expose mapping of virtual networks to physical networks"),
    "quota_details": ("Quota details management support", "Expose functions for quotas usage statistics per project"),
    "quota-check-limit": ("Quota engine limit check", "Support for checking the resource usage before a new limit"),
    "quotas": ("Quota management support", "Expose functions for quotas management per project"),
    "router": ("Neutron L3 Router", "Router abstraction for basic L3 forwarding between L2 Neutron networks"),
    "security-group": ("security-group", "The security groups extension."),
    "sorting": ("Sorting support", "Extension that indicates that sorting is enabled."),
    "standard-attr-description": ("standard-attr-description", "Extension to add descriptions to standard attributes"),
    "standard-attr-revisions": ("Resource revision numbers", "This extension will display the revision number"),
    "standard-attr-tag": ("Tag support for resources with standard attribute", "Enables to set tag on resources."),
    "standard-attr-timestamp": ("Resource timestamps", "Adds created_at and updated_at fields to all resources"),
    "stateful-security-group": ("Stateful security group", "Indicates if the security group is stateful or not"),
}
_UPDATED = "2026-01-01T00:00:00-00:00"


def _view(alias: str) -> dict[str, Any]:
    name, description = EXTENSIONS[alias]
    return {"alias": alias, "name": name, "description": description, "updated": _UPDATED, "links": []}


async def index(service: NetworkService, request: Request[Any]) -> dict[str, Any]:
    """GET /v2.0/extensions"""
    return {"extensions": [_view(alias) for alias in EXTENSIONS]}


async def show(service: NetworkService, request: Request[Any]) -> dict[str, Any]:
    """GET /v2.0/extensions/{alias}"""
    alias = request.path["alias"]
    if alias not in EXTENSIONS:
        raise not_found("Extension with alias", alias, code="HTTPNotFound")
    return {"extension": _view(alias)}


async def versions(service: NetworkService, request: Request[Any]) -> dict[str, Any]:
    """GET /"""
    links = [{"rel": "self", "href": f"{request.origin}/v2.0/"}]
    return {"versions": [{"id": "v2.0", "status": "CURRENT", "links": links}]}


_COLLECTIONS = {
    "network": "networks",
    "subnet": "subnets",
    "port": "ports",
    "router": "routers",
    "floatingip": "floatingips",
    "security_group": "security-groups",
    "security_group_rule": "security-group-rules",
    "agent": "agents",
    "quota": "quotas",
    "extension": "extensions",
}


async def resources(service: NetworkService, request: Request[Any]) -> dict[str, Any]:
    """GET /v2.0"""
    return {
        "resources": [
            {
                "name": name,
                "collection": path.replace("-", "_"),
                "links": [{"rel": "self", "href": f"{request.origin}/v2.0/{path}"}],
            }
            for name, path in _COLLECTIONS.items()
        ]
    }


RULES: tuple[Rule, ...] = ()
_OPEN = "clients read it before they know anything"
ROUTES = (
    Route(method="GET", path="/", handler=versions, open_because=_OPEN, needs_token=False),
    Route(method="GET", path="/v2.0", handler=resources, open_because=_OPEN, needs_token=False),
    Route(method="GET", path="/v2.0/extensions", handler=index, open_because="the same for everybody"),
    Route(method="GET", path="/v2.0/extensions/{alias}", handler=show, open_because="the same for everybody"),
)
