"""Every list route: what it filters and sorts by, and how it pages, as the service's API reference says.

A new list route needs a row here; one that is a document, not a list, stands in NO_LISTS with what it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

LINKS = "links"  # compute, network, block storage: "<collection>_links" with rel next
NEXT = "next"  # image: a path under "next"
WHOLE = "whole"  # always everything: the service documents no pages for it
Item = dict[str, Any]
Pages = Literal["links", "next", "whole"]


@dataclass(frozen=True)
class Row:
    """One list. `filters` and `sorts` are query names, or `query=field` where the field is called otherwise."""

    service: str
    path: str
    collection: str
    filters: tuple[str, ...] = ()
    sorts: tuple[str, ...] = ()
    pages: Pages = WHOLE
    id: str = "id"
    least: int = 3  # items that the seeded cloud has at least
    sort_style: Literal["pairs", "keys"] = "keys"  # sort=key:dir, or sort_key=key&sort_dir=dir
    links: str = ""  # where the link to the next page stands, when not under <collection>_links


def _compute(path: str, collection: str, **more: object) -> Row:
    return Row("compute", f"/v2.1{path}", collection, **more)  # type: ignore[arg-type]


def _network(collection: str, *filters: str, sorts: tuple[str, ...] = ("name", "id"), least: int = 3) -> Row:
    path = f"/v2.0/{collection.replace('_', '-')}"
    return Row("network", path, collection, ("id", "project_id", *filters), sorts, LINKS, least=least)


def _volume(path: str, collection: str, **more: object) -> Row:
    return Row("volume", f"/v3{path}", collection, sort_style="pairs", **more)  # type: ignore[arg-type]


def _identity(path: str, collection: str, *filters: str, least: int = 3) -> Row:
    return Row("identity", f"/v3{path}", collection, filters, least=least)


def _placement(path: str, collection: str, *filters: str, least: int = 1, id_: str = "uuid") -> Row:
    return Row("placement", path, collection, filters, id=id_, least=least)


_SERVER_SORTS = ("display_name=name", "uuid=id")
_FLAVOR_SORTS = ("flavorid=id", "name")
_DETAILED_FLAVOR_SORTS = ("memory_mb=ram", "vcpus", "root_gb=disk", *_FLAVOR_SORTS)
_VOLUME_SORTS = ("name", "id")

LISTS: tuple[Row, ...] = (
    _compute("/servers", "servers", filters=("name",), sorts=_SERVER_SORTS, pages=LINKS),
    _compute("/servers/detail", "servers", filters=("name", "status", "uuid=id", "user_id"),
             sorts=(*_SERVER_SORTS, "created_at=created", "launched_at=OS-SRV-USG:launched_at"), pages=LINKS),
    _compute("/servers/{server_id}/os-instance-actions", "instanceActions", id="request_id", least=2, pages=LINKS,
             links="links"),
    _compute("/flavors", "flavors", sorts=_FLAVOR_SORTS, pages=LINKS),
    _compute("/flavors/detail", "flavors", sorts=_DETAILED_FLAVOR_SORTS, pages=LINKS),
    _compute("/flavors/{flavor_id}/os-flavor-access", "flavor_access", id="tenant_id", least=1),
    _compute("/os-keypairs", "keypairs", id="keypair.name", pages=LINKS),
    _compute("/os-availability-zone", "availabilityZoneInfo", id="zoneName", least=1),
    _compute("/os-availability-zone/detail", "availabilityZoneInfo", id="zoneName", least=1),
    _compute("/os-services", "services", filters=("binary", "host"), least=2),
    _compute("/os-hypervisors", "hypervisors", least=2, pages=LINKS),
    _compute("/os-hypervisors/detail", "hypervisors", least=2, pages=LINKS),
    _compute("/os-aggregates", "aggregates"),
    _compute("/os-server-groups", "server_groups"),
    _compute("/os-migrations", "migrations", filters=("status", "migration_type", "instance_uuid"), least=2,
             pages=LINKS),
    _compute("/servers/{server_id}/os-interface", "interfaceAttachments", id="port_id", least=1),
    _compute("/servers/{server_id}/os-volume_attachments", "volumeAttachments", id="volumeId", least=1),
    _compute("/servers/{server_id}/os-security-groups", "security_groups", id="name", least=1),
    _compute("/extensions", "extensions", id="alias"),
    _network("networks", "name", "status", "shared", "admin_state_up", "router:external"),
    _network("subnets", "name", "cidr", "network_id", "gateway_ip", "ip_version", sorts=("name", "id", "cidr")),
    _network("ports", "name", "network_id", "mac_address", "status", "device_owner",
             sorts=("name", "id", "mac_address")),
    _network("routers", "name", "status", "admin_state_up"),
    _network("floatingips", "floating_ip_address", "status", "floating_network_id",
             sorts=("id", "floating_ip_address")),
    _network("security_groups", "name", "description"),
    _network("security_group_rules", "direction", "ethertype", "security_group_id", sorts=("id", "direction")),
    Row("network", "/v2.0/agents", "agents", ("binary", "agent_type", "host"), ("id", "binary"), LINKS),
    Row("network", "/v2.0/quotas", "quotas", id="project_id", least=0),
    Row("network", "/v2.0/extensions", "extensions", id="alias"),
    _volume("/volumes", "volumes", filters=("name",), sorts=_VOLUME_SORTS, pages=LINKS),
    _volume("/volumes/detail", "volumes", filters=("name", "status", "bootable", "availability_zone", "size"),
            sorts=(*_VOLUME_SORTS, "created_at", "size", "status"), pages=LINKS),
    _volume("/snapshots", "snapshots", filters=("name", "status", "volume_id"), sorts=_VOLUME_SORTS, pages=LINKS),
    _volume("/snapshots/detail", "snapshots", filters=("name", "status", "volume_id"),
            sorts=(*_VOLUME_SORTS, "created_at"), pages=LINKS),
    _volume("/attachments", "attachments", filters=("volume_id", "instance_id=instance", "status"), sorts=("id",),
            pages=LINKS, least=2),
    _volume("/attachments/detail", "attachments", filters=("volume_id", "instance_id=instance", "status"),
            sorts=("id",), pages=LINKS, least=2),
    _volume("/types", "volume_types", sorts=("name", "id"), pages=LINKS, links="volume_type_links"),
    _volume("/types/{type_id}/os-volume-type-access", "volume_type_access", id="project_id", least=1),
    _volume("/os-services", "services", filters=("binary", "host"), id="binary", least=2),
    _volume("/os-availability-zone", "availabilityZoneInfo", id="zoneName", least=1),
    _volume("/scheduler-stats/get_pools", "pools", id="name", least=1),
    _volume("/messages", "messages", least=0, pages=LINKS),
    Row("image", "/v2/images", "images",
        ("name", "id", "status", "visibility", "disk_format", "container_format", "owner"),
        ("name", "id", "created_at", "updated_at", "size", "status", "disk_format"), NEXT),
    Row("image", "/v2/images/{image_id}/members", "members", id="member_id", least=1),
    Row("image", "/v2/tasks", "tasks", sorts=("created_at",), pages=NEXT, least=0),
    Row("image", "/v2/images/{image_id}/tasks", "tasks", least=0),
    Row("image", "/v2/metadefs/namespaces", "namespaces", ("visibility",), ("namespace", "created_at"), NEXT,
        id="namespace"),
    Row("image", "/v2/metadefs/resource_types", "resource_types", id="name", least=1),
    Row("image", "/v2/metadefs/namespaces/{namespace}/resource_types", "resource_type_associations", id="name",
        least=1),
    Row("image", "/v2/metadefs/namespaces/{namespace}/objects", "objects", id="name", least=0),
    Row("image", "/v2/metadefs/namespaces/{namespace}/tags", "tags", id="name", least=0),
    _identity("/auth/projects", "projects", least=1),
    _identity("/auth/domains", "domains", least=0),
    _identity("/domains", "domains", "name", "enabled", least=1),
    _identity("/projects", "projects", "name", "domain_id", "enabled", "parent_id", "is_domain"),
    _identity("/users", "users", "name", "domain_id", "enabled"),
    _identity("/users/{user_id}/groups", "groups", least=1),
    _identity("/users/{user_id}/projects", "projects", least=1),
    _identity("/groups/{group_id}/users", "users", least=1),
    _identity("/groups", "groups", "name", "domain_id", least=1),
    _identity("/roles", "roles", "name"),
    _identity("/regions", "regions", least=1),
    _identity("/services", "services", "type", "name"),
    _identity("/endpoints", "endpoints", "interface", "service_id", "region_id"),
    _identity("/users/{user_id}/application_credentials", "application_credentials", "name", least=1),
    _identity("/users/{user_id}/access_rules", "access_rules", least=0),
    _identity("/users/{user_id}/credentials/OS-EC2", "credentials", least=1),
    _identity("/credentials", "credentials", "user_id", "type", least=1),
    _identity("/OS-TRUST/trusts", "trusts", least=0),
    _identity("/OS-FEDERATION/projects", "projects", least=1),
    _identity("/OS-FEDERATION/domains", "domains", least=0),
    _identity("/OS-FEDERATION/identity_providers", "identity_providers", "id", "enabled", least=0),
    _identity("/OS-FEDERATION/service_providers", "service_providers", "id", "enabled", least=0),
    _identity("/OS-FEDERATION/mappings", "mappings", least=0),
    _identity("/OS-OAUTH1/consumers", "consumers", least=0),
    _identity("/users/{user_id}/OS-OAUTH1/access_tokens", "access_tokens", least=0),
    _identity("/OS-EP-FILTER/endpoint_groups", "endpoint_groups", least=0),
    _identity("/policies", "policies", least=0),
    _identity("/limits", "limits", least=0),
    _identity("/registered_limits", "registered_limits", least=0),
    _placement("/resource_providers", "resource_providers", "name", "uuid", least=2),
    _placement("/resource_classes", "resource_classes", id_="name"),
)  # fmt: skip

# Routes that end in a plural or a word and answer one document, or a bare set without items of their own.
NO_LISTS: dict[str, str] = {
    "compute /v2.1/servers/{server_id}/ips": "the addresses of one server, by network",
    "compute /v2.1/servers/{server_id}/metadata": "one server's pairs",
    "compute /v2.1/servers/{server_id}/tags": "one server's words",
    "compute /v2.1/flavors/{flavor_id}/os-extra_specs": "one flavor's pairs",
    "compute /v2.1/os-quota-sets/{quota_project_id}/defaults": "one project's numbers",
    "compute /v2.1/os-quota-sets/{quota_project_id}/detail": "one project's numbers",
    "compute /v2.1/limits": "one project's numbers",
    "compute /v2.1/os-hypervisors/statistics": "one sum",
    "compute /v2.1/os-hypervisors/{hypervisor_id}/search": "until 2.52: the list, by a name in the path",
    "compute /v2.1/os-hypervisors/{hypervisor_id}/servers": "until 2.52: the list, by a name in the path",
    "compute /v2.1/servers/{server_id}/diagnostics": "one server's numbers",
    "compute /v2.1/servers/{server_id}/os-server-password": "one password",
    "compute /v2.1/os-scheduler-decisions": "the newest reasons about one server or request",
    "identity /v3/OS-REVOKE/events": "what ended tokens; an event has no name of its own",
    "network /v2.0/quotas/tenant": "who asks",
    "network /v2.0/quotas/project": "who asks",
    "network /v2.0/quotas/{id}/default": "one project's numbers",
    "network /v2.0/quotas/{id}/default.json": "one project's numbers",
    "network /v2.0/quotas/{id}/details": "one project's numbers",
    "network /v2.0/quotas/{id}/details.json": "one project's numbers",
    "network /v2.0/{noun}/{id}/tags": "one resource's words",
    "volume /v3/volumes/summary": "one sum",
    "volume /v3/volumes/{volume_id}/metadata": "one volume's pairs",
    "volume /v3/snapshots/{snapshot_id}/metadata": "one snapshot's pairs",
    "volume /v3/types/{type_id}/extra_specs": "one type's pairs",
    "volume /v3/os-quota-sets/{project_id}/defaults": "one project's numbers",
    "volume /v3/limits": "one project's numbers",
    "image /v2/images/{image_id}/file": "bytes",
    "image /v2/metadefs/namespaces/{namespace}/properties": "one document: properties by name",
    "image /v2/images/{image_id}/locations": "one image's places, without ids",
    "image /v2/cache": "two lists in one document",
    "image /v2/info/import": "what this service can do",
    "image /v2/info/stores": "the settings' stores",
    "image /v2/info/stores/detail": "the settings' stores",
    "image /v2/info/usage": "the caller's numbers",
    "identity /v3/domains/config/default": "one document",
    "identity /v3/domains/config/{group}/default": "one document",
    "identity /v3/domains/config/{group}/{option}/default": "one document",
    "identity /v3/domains/{domain_id}/config": "one document",
    "identity /v3/domains/{domain_id}/config/security_compliance": "one document",
    "identity /v3/limits/model": "one document",
    "identity /v3/OS-TRUST/trusts/{trust_id}/roles": "one trust's roles, tested beside trusts",
    "identity /v3/OS-FEDERATION/identity_providers/{identity_provider_id}/protocols": "one provider's ways",
    "identity /v3/OS-FEDERATION/identity_providers/{identity_provider_id}/protocols/{protocol_id}/auth": "a login",
    "identity /v3/users/{user_id}/OS-OAUTH1/access_tokens/{access_token_id}/roles": "one token's roles, tested there",
    "identity /v3/endpoints/{endpoint_id}/OS-ENDPOINT-POLICY/policy": "one policy",
    "identity /v3/policies/{policy_id}/OS-ENDPOINT-POLICY/endpoints": "a policy's endpoints, tested beside policies",
    **{
        f"identity /v3/OS-EP-FILTER/{path}": "one side of a pairing, tested beside endpoint filters"
        for path in (
            "endpoint_groups/{endpoint_group_id}/endpoints",
            "endpoint_groups/{endpoint_group_id}/projects",
            "endpoints/{endpoint_id}/projects",
            "projects/{project_id}/endpoint_groups",
            "projects/{project_id}/endpoints",
        )
    },
    "identity /v3/auth/tokens": "the token",
    "identity /v3/auth/catalog": "the token's catalog",
    "identity /v3/projects/{project_id}/tags": "one project's words",
    "identity /v3/auth/system": "the scopes of the caller",
    "identity /v3/kilonova/token_version": "a number",
    "identity /v3/kilonova/authority": "one certificate",
    "identity /v3/roles/{prior_id}/implies": "one role's inferences",
    "identity /v3/role_inferences": "the table of inferences",
    "identity /v3/role_assignments": "pairs without ids; tested in tests/api/identity/test_assignments.py",
    "placement /resource_providers/{uuid}/inventories": "one provider's document",
    "placement /traits": "bare names",
    "placement /resource_providers/{uuid}/traits": "bare names",
    "placement /resource_providers/{uuid}/aggregates": "bare ids",
    "placement /resource_providers/{uuid}/allocations": "one provider's document",
    "placement /resource_providers/{uuid}/usages": "one provider's document",
    "placement /usages": "one project's numbers",
    "placement /changes": "what changed since a number, for schedulers",
    "placement /allocation_candidates": "an answer to a question, not rows",
}
NO_LIST_PATTERNS = ("/v2/schemas/", "/inherited_to_projects", "actor_id}/roles")

# (service, path, collection, query, what is true of every answered item, and of at least one item that is left out)
QUESTIONS: tuple[tuple[str, str, str, str, Callable[[Item], bool]], ...] = (
    ("compute", "/v2.1/flavors/detail", "flavors", "minRam=3000", lambda one: one["ram"] >= 3000),
    ("compute", "/v2.1/flavors/detail", "flavors", "minDisk=30", lambda one: one["disk"] >= 30),
    ("compute", "/v2.1/flavors/detail", "flavors", "is_public=false",
     lambda one: not one["os-flavor-access:is_public"]),
    ("compute", "/v2.1/servers/detail", "servers", "name=[01]$", lambda one: one["name"] in ("s0", "s1")),
    ("compute", "/v2.1/servers/detail", "servers", "status=SHUTOFF", lambda one: one["status"] == "SHUTOFF"),
    ("compute", "/v2.1/os-services", "services", "host=node1", lambda one: one["host"] == "node1"),
    ("network", "/v2.0/networks", "networks", "name=n0&name=n1", lambda one: one["name"] in ("n0", "n1")),
    ("network", "/v2.0/networks", "networks", "router:external=true", lambda one: one["router:external"]),
    ("network", "/v2.0/ports", "ports", "fixed_ips=ip_address_substr%3D10.41.",
     lambda one: any(ip["ip_address"].startswith("10.41.") for ip in one["fixed_ips"])),
    ("network", "/v2.0/ports", "ports", "device_owner=compute:nova",
     lambda one: one["device_owner"] == "compute:nova"),
    ("volume", "/v3/volumes/detail", "volumes", "name~=1", lambda one: "1" in one["name"]),
    ("volume", "/v3/volumes/detail", "volumes", "size=2", lambda one: one["size"] == 2),
    ("image", "/v2/images", "images", "size_min=1", lambda one: (one["size"] or 0) >= 1),
    ("image", "/v2/images", "images", "name=in:i0,i1", lambda one: one["name"] in ("i0", "i1")),
    ("image", "/v2/images", "images", "status=in:active,saving", lambda one: one["status"] == "active"),
    ("identity", "/v3/users", "users", "name__startswith=n", lambda one: one["name"].startswith("n")),
    ("identity", "/v3/projects", "projects", "name__contains=q", lambda one: "q" in one["name"]),
    ("placement", "/resource_providers", "resource_providers", "name=node1", lambda one: one["name"] == "node1"),
)  # fmt: skip
