"""What a server's guest uses of its host, and an interrupt that makes it dump its memory: for operators."""

from __future__ import annotations

from typing import Any

from kilonova.base.faults import conflict
from kilonova.compute.contract import GuestUse
from kilonova.compute.core import Compute
from kilonova.compute.schema import journal
from kilonova.compute.server import states
from kilonova.compute.server.begin import ADMIN as IS_ADMIN
from kilonova.compute.server.begin import load, new_operation
from kilonova.compute.server.store import Server
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.policy.personas import ADMIN, PROJECT_MEMBER_OR_ADMIN
from kilonova.policy.rules import Rule


async def diagnostics(compute: Compute, request: Request[Any]) -> dict[str, Any]:
    """GET /servers/{id}/diagnostics: one shape for all hypervisors from 2.48 on."""
    server = await load(compute, request)
    if not server.host or server.power_state != "running":
        raise conflict(
            f"Cannot 'get_diagnostics' instance {server.id} while it is in power state {server.power_state}",
            hint="Start the server first.",
            code="InstanceInvalidState",
        )
    used = await compute.agent(server.host).get_diagnostics(server.id)
    return _standard(compute, server, used) if request.version >= (2, 48) else _plain(used)


def _standard(compute: Compute, server: Server, used: GuestUse) -> dict[str, Any]:
    """Rates and utilisation are not measured: null."""
    uptime = compute.world.clock.now() - server.launched_at if server.launched_at else None
    return {
        "config_drive": server.config_drive,
        "cpu_details": [
            {"id": number, "time": nanoseconds, "utilisation": None}
            for number, nanoseconds in enumerate(used.cpu_nanoseconds)
        ],
        "disk_details": [
            {
                "read_bytes": disk.read_bytes,
                "read_requests": disk.read_requests,
                "write_bytes": disk.write_bytes,
                "write_requests": disk.write_requests,
                "errors_count": disk.errors_count,
            }
            for disk in used.disks
        ],
        "driver": "libvirt",
        "hypervisor": used.hypervisor,
        "hypervisor_os": "linux",
        "memory_details": {"maximum": used.memory_kib // 1024, "used": used.memory_used_kib // 1024},
        "nic_details": [
            {
                "mac_address": nic.mac,
                "rx_drop": nic.rx_drop,
                "rx_errors": nic.rx_errors,
                "rx_octets": nic.rx_octets,
                "rx_packets": nic.rx_packets,
                "rx_rate": None,
                "tx_drop": nic.tx_drop,
                "tx_errors": nic.tx_errors,
                "tx_octets": nic.tx_octets,
                "tx_packets": nic.tx_packets,
                "tx_rate": None,
            }
            for nic in used.nics
        ],
        "num_cpus": len(used.cpu_nanoseconds),
        "num_disks": len(used.disks),
        "num_nics": len(used.nics),
        "state": server.power_state,
        "uptime": int(uptime.total_seconds()) if uptime else None,
    }


def _plain(used: GuestUse) -> dict[str, int]:
    """Names and numbers as libvirt hosts have told them since the first versions."""
    told = {f"cpu{number}_time": nanoseconds for number, nanoseconds in enumerate(used.cpu_nanoseconds)}
    told["memory"] = used.memory_kib
    for disk in used.disks:
        told |= {
            f"{disk.target}_read_req": disk.read_requests,
            f"{disk.target}_read": disk.read_bytes,
            f"{disk.target}_write_req": disk.write_requests,
            f"{disk.target}_write": disk.write_bytes,
            f"{disk.target}_errors": disk.errors_count,
        }
    for nic in used.nics:
        told |= {
            f"{nic.tap}_rx": nic.rx_octets,
            f"{nic.tap}_rx_packets": nic.rx_packets,
            f"{nic.tap}_rx_errors": nic.rx_errors,
            f"{nic.tap}_rx_drop": nic.rx_drop,
            f"{nic.tap}_tx": nic.tx_octets,
            f"{nic.tap}_tx_packets": nic.tx_packets,
            f"{nic.tap}_tx_errors": nic.tx_errors,
            f"{nic.tap}_tx_drop": nic.tx_drop,
        }
    return told


async def crash_dump(compute: Compute, request: Request[Any]) -> Answer:
    """POST /servers/{id}/action {"trigger_crash_dump": null}: what the guest does on it, is set up inside it."""
    server = await load(compute, request)
    states.check("trigger_crash_dump", server.now(), admin=request.allows(IS_ADMIN))
    await compute.agent(server.host).trigger_crash_dump(server.id)
    row = new_operation(compute, request, "trigger_crash_dump", server.id, {})
    row.state, row.sealed, row.finished_at = "done", None, row.created_at
    await compute.db.write(journal.insert, row)
    return Answer(None)


_DIAGNOSTICS = "os_compute_api:os-server-diagnostics"
_CRASH = "os_compute_api:servers:trigger_crash_dump"
_PATH = "/servers/{server_id}/diagnostics"
_ACTION = "/servers/{server_id}/action"
ROUTES = (
    Route(method="GET", path=_PATH, handler=diagnostics, policy=_DIAGNOSTICS),
    Route(
        method="POST",
        path=_ACTION,
        handler=crash_dump,
        policy=_CRASH,
        action="trigger_crash_dump",
        success=202,
        since="2.17",
    ),
)
RULES = (
    Rule(_DIAGNOSTICS, ADMIN, "Show what a server uses", (("GET", _PATH),)),
    Rule(_CRASH, PROJECT_MEMBER_OR_ADMIN, "Interrupt a server so that it dumps its memory", (("POST", _ACTION),)),
)
