"""/extensions: the parts of this API by the names they had before microversions. Only parts that are served here."""

from __future__ import annotations

from typing import Any

from kilonova.base.faults import Fault, Kind
from kilonova.compute.core import Compute
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.policy.personas import ANY
from kilonova.policy.rules import Rule

NAMESPACE = "http://docs.openstack.org/compute/ext/fake_xml"
UPDATED = "2014-12-03T00:00:00Z"
SERVED: dict[str, tuple[str, str]] = {
    "OS-DCF": ("DiskConfig", "Disk Management Extension."),
    "OS-EXT-AZ": ("ExtendedAvailabilityZone", "Extended Availability Zone support."),
    "OS-EXT-SRV-ATTR": ("ExtendedServerAttributes", "Extended Server Attributes support."),
    "OS-EXT-STS": ("ExtendedStatus", "Extended Status support."),
    "OS-FLV-DISABLED": ("FlavorDisabled", "Support to show the disabled status of a flavor."),
    "OS-FLV-EXT-DATA": ("FlavorExtraData", "Provide additional data for flavors."),
    "OS-SCH-HNT": ("SchedulerHints", "Pass arbitrary key/value pairs to the scheduler."),
    "OS-SRV-USG": ("ServerUsage", "Adds launched_at and terminated_at on Servers."),
    "os-access-ips": ("AccessIPs", "Access IPs support."),
    "os-availability-zone": ("AvailabilityZone", "Availability zones of servers and a list of them."),
    "os-block-device-mapping": ("BlockDeviceMapping", "Block device mapping boot support."),
    "os-certificates": ("Certificates", "X.509 certificates support."),
    "os-config-drive": ("ConfigDrive", "Config Drive Extension."),
    "os-extended-quotas": ("ExtendedQuotas", "Delete quotas and force their update."),
    "os-flavor-access": ("FlavorAccess", "Flavor access support."),
    "os-flavor-extra-specs": ("FlavorExtraSpecs", "Flavors extra specs support."),
    "os-flavor-manage": ("FlavorManage", "Flavor create/delete API support."),
    "os-flavor-rxtx": ("FlavorRxtx", "Support to show the rxtx status of a flavor."),
    "os-flavor-swap": ("FlavorSwap", "Support to show the swap status of a flavor."),
    "os-hypervisors": ("Hypervisors", "Admin-only hypervisor administration."),
    "os-keypairs": ("Keypairs", "Keypair Support."),
    "os-multiple-create": ("MultipleCreate", "Create several servers with one request."),
    "os-personality": ("Personality", "Personality support."),
    "os-quota-class-sets": ("QuotaClasses", "Quota classes management support."),
    "os-quota-sets": ("Quotas", "Quotas management support."),
    "os-server-start-stop": ("ServerStartStop", "Start/Stop instance compute API support."),
    "os-services": ("Services", "Services support."),
    "os-used-limits": ("UsedLimits", "Provide data on limited resources that are being used."),
    "os-used-limits-for-admin": ("UsedLimitsForAdmin", "The same of other projects, for administrators."),
    "os-user-data": ("UserData", "Add user_data to the Create Server API."),
    "os-user-quotas": ("UserQuotas", "Project user quota support."),
}


def _shown(alias: str) -> dict[str, Any]:
    name, description = SERVED[alias]
    return {
        "alias": alias,
        "name": name,
        "description": description,
        "namespace": NAMESPACE,
        "updated": UPDATED,
        "links": [],
    }


async def index(compute: Compute, request: Request[None]) -> dict[str, Any]:
    """All that are served."""
    request.enforce()
    return {"extensions": [_shown(alias) for alias in SERVED]}


async def show(compute: Compute, request: Request[None]) -> dict[str, Any]:
    """One of them."""
    request.enforce()
    alias = request.path["alias"]
    if alias not in SERVED:
        raise Fault(Kind.NOT_FOUND, f"There is no extension {alias[:80]}.")
    return {"extension": _shown(alias)}


_NAME = "os_compute_api:extensions"
ROUTES: tuple[Route, ...] = (
    Route(method="GET", path="/extensions", handler=index, policy=_NAME),
    Route(method="GET", path="/extensions/{alias}", handler=show, policy=_NAME),
)
RULES: tuple[Rule, ...] = (
    Rule(_NAME, ANY, "List extensions", (("GET", "/extensions"), ("GET", "/extensions/{alias}"))),
)
