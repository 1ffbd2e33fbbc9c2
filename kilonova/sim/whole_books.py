"""Book-keeping of the whole cloud: what services, hosts and machines say of each other, once nothing is under way.

Each checker returns sentences; an empty list is balance.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import msgspec

from kilonova.block_storage.schema import journal as volume_journal
from kilonova.compute.contract import BlockDevice, Flavor, Power
from kilonova.compute.scheduler.resources import resources_of
from kilonova.compute.schema import journal as server_journal
from kilonova.compute.server import migration_store, seen_store, states, store
from kilonova.compute.server.migration_store import Migration
from kilonova.compute.server.store import Server
from kilonova.sim import whole_store as rows
from kilonova.sim.books import boots_from_rescue, differs
from kilonova.sim.whole_cloud import WholeCloud

POWER = {
    states.ACTIVE: Power.RUNNING,
    states.STOPPED: Power.SHUTDOWN,
    states.PAUSED: Power.PAUSED,
    states.SUSPENDED: Power.SHUTDOWN,
    states.SOFT_DELETED: Power.SHUTDOWN,
}

SETTLED = ("available", "in-use", "error", "error_deleting")


def check(cloud: WholeCloud) -> list[str]:
    """Everything that does not add up, in words."""
    seen = Seen(cloud)
    return [
        *_nothing_under_way(seen),
        *_allocations(seen),
        *_usage(seen),
        *_guests(seen),
        *_ports(seen),
        *_addresses(seen),
        *_attachments(seen),
        *_volumes(seen),
        *_hardware(seen),
    ]


@dataclass
class Seen:
    """One look at everything."""

    cloud: WholeCloud
    servers: list[Server] = field(init=False)
    devices: dict[str, list[BlockDevice]] = field(init=False)
    waiting: dict[str, Migration] = field(init=False)  # migrations that are not over

    def __post_init__(self) -> None:
        with self.cloud.databases["compute"].engine.connect() as connection:
            self.servers = seen_store.every(connection)
            moving = migration_store.every(connection)
            self.waiting = {one.id: one for one in moving if one.status in migration_store.OPEN}
            self.devices = {server.id: store.devices_of(connection, server.id) for server in self.servers}

    @cached_property
    def live(self) -> dict[str, Server]:
        """Servers that users can see."""
        return {server.id: server for server in self.servers if server.deleted_at is None}

    @cached_property
    def placed(self) -> dict[str, Server]:
        """Of them those that are on a host."""
        return {key: server for key, server in self.live.items() if server.host}

    def has_image(self, migration: Migration) -> bool:
        """Whether its server boots from an image."""
        return any(one.id == migration.server_id and one.image_id for one in self.servers)

    def ask(self, database: str, question: Any, *args: Any) -> Any:
        """Read behind a service's back."""
        with self.cloud.databases[database].engine.connect() as connection:
            return question(connection, *args)


def _nothing_under_way(seen: Seen) -> list[str]:
    told = [
        f"server {server.id} is still {server.task_state or 'owned'} ({server.vm_state})"
        for server in seen.servers
        if server.task_state or server.operation_id
    ]
    in_error = {server.id for server in seen.live.values() if server.vm_state == states.ERROR}
    kept = {
        one.volume_id for one in seen.ask("block_storage", rows.all_attachments) if one.instance_id in in_error
    }  # a server in error keeps what its user gave it, until it is deleted
    told += [
        f"volume {one.id} is {one.status}, owned by {one.operation_id or 'nobody'}"
        for one in seen.ask("block_storage", rows.all_volumes)
        if one.operation_id or (one.status not in SETTLED and one.id not in kept)
    ]
    for database, journal in (("compute", server_journal), ("block_storage", volume_journal)):
        unfinished, _ = seen.ask(database, journal.under_way)
        if unfinished:
            told.append(f"{unfinished} operations of {database} are unfinished")
    return told


def _allocations(seen: Seen) -> list[str]:
    held = seen.ask("placement", rows.allocations)
    told = [
        f"allocation of {key} without a server on a host"
        for key in held
        if key not in seen.placed and key not in seen.waiting
    ]
    for key, migration in seen.waiting.items():
        old = resources_of(msgspec.convert(migration.old_flavor, Flavor), {}, from_volume=not seen.has_image(migration))
        if held.get(key) != {migration.source_node: old}:
            told.append(f"migration {key} of {migration.server_id} holds {held.get(key)}, not {old}")
    for key, server in seen.placed.items():
        where = held.get(key, {})
        if list(where) != [server.node]:
            told.append(f"server {key} is on {server.node}, its allocation on {list(where)}")
        elif where[server.node] != _wanted(server) and server.vm_state != states.ERROR:
            told.append(f"server {key} holds {where[server.node]}")
    return told


def _wanted(server: Server) -> dict[str, int]:
    return resources_of(server.flavor_struct, {}, from_volume=not server.image_id)


def _usage(seen: Seen) -> list[str]:
    total: Counter[tuple[str, str]] = Counter()
    for where in seen.ask("placement", rows.allocations).values():
        for name, resources in where.items():
            total.update({(name, resource): amount for resource, amount in resources.items()})
    told = [
        f"placement counts {amount} {key[1]} on {key[0]}, allocations are {total[key]}"
        for key, amount in seen.ask("placement", rows.used).items()
        if amount != total[key]
    ]
    for project_id in sorted({server.project_id for server in seen.servers}):
        live = [server for server in seen.live.values() if server.vm_state != states.SOFT_DELETED]
        mine = [server for server in live if server.project_id == project_id]
        rows_say = (len(mine), sum(one.vcpus for one in mine), sum(one.memory_mb for one in mine))
        if seen.ask("compute", store.usage, project_id) != rows_say:
            told.append(f"project {project_id} has {rows_say}, its quota says otherwise")
    return told


def _guests(seen: Seen) -> list[str]:
    where: dict[str, list[str]] = {}
    told = []
    for host in seen.cloud.hosts.values():
        for guest_id in host.machine.guests:
            where.setdefault(guest_id, []).append(host.name)
        told += [f"disks of {id_} without a server on {host.name}" for id_ in host.machine.disks
                 if id_ not in seen.placed]  # fmt: skip
        told += [f"old disks of {id_} on {host.name}" for id_ in host.machine.kept_disks
                 if id_ not in {one.server_id for one in seen.waiting.values()}]  # fmt: skip
    told += [f"guest {key} without a server on {hosts}" for key, hosts in where.items() if key not in seen.placed]
    told += [f"guest {key} twice: {hosts}" for key, hosts in where.items() if len(hosts) > 1]
    for key, server in seen.placed.items():
        if server.vm_state not in POWER:
            continue
        guest = seen.cloud.hosts[server.host].machine.guests.get(key)
        if guest is not None and guest.power is Power.RUNNING and guest.spec.memory_mb != server.flavor["memory_mb"]:
            told.append(f"guest {key} has {guest.spec.memory_mb} MB, its flavor {server.flavor['memory_mb']}")
        if where.get(key) != [server.host] or guest is None or guest.power is not POWER[server.vm_state]:
            told.append(f"server {key} is {server.vm_state} on {server.host}, its guest {guest and guest.power}")
    return told


def _ports(seen: Seen) -> list[str]:
    told = []
    known = {port.id: port for port in seen.ask("network", rows.ports)}
    for port in known.values():
        server = seen.placed.get(port.device_id)
        if not port.device_owner.startswith("compute:"):
            continue
        if server is None or server.host != port.host:
            told.append(f"port {port.id} is bound for {port.device_id} on {port.host}")
        elif port.id not in [one["id"] for one in server.ports]:
            told.append(f"server {server.id} ({server.vm_state}) does not know its port {port.id}")
        elif server.vm_state == states.ACTIVE and port.status != "ACTIVE":
            told.append(f"server {server.id} is active, its port {port.id} is {port.status}")
    for server in seen.live.values():
        mine = [one["id"] for one in server.ports]
        if server.vm_state in POWER:
            told += [f"server {server.id} shows port {id_} that is not its" for id_ in mine
                     if id_ not in known or known[id_].device_id != server.id]  # fmt: skip
    for host in seen.cloud.hosts.values():
        bound = {id_ for id_, port in known.items() if port.host == host.name}
        told += [f"{host.name} has port {id_} built, which is not bound there" for id_ in host.switch.ports
                 if id_ not in bound]  # fmt: skip
    return told


def _addresses(seen: Seen) -> list[str]:
    ports = {port.id for port in seen.ask("network", rows.ports)}
    used = seen.ask("network", rows.addresses)
    times = Counter((network_id, address) for network_id, address, _ in used)
    told = [f"address {address} is used {count} times" for (_, address), count in times.items() if count > 1]
    told += [f"address {address} belongs to port {id_}, which is gone" for _, address, id_ in used if id_ not in ports]
    for id_, own, target in seen.ask("network", rows.floating_ips):
        if own not in ports or (target and target not in ports):
            told.append(f"floating IP {id_} points to a port that is gone")
    return told


def _attachments(seen: Seen) -> list[str]:
    held = {one.id: one for one in seen.ask("block_storage", rows.all_attachments)}
    told = []
    for one in held.values():
        devices = seen.devices.get(one.instance_id, []) if one.instance_id in seen.live else []
        if one.id not in [device.attachment_id for device in devices]:
            told.append(f"attachment {one.id} ({one.status}) of volume {one.volume_id} for {one.instance_id}")
    for server in seen.placed.values():
        for device in seen.devices[server.id]:
            if server.vm_state in POWER and device.destination_type == "volume" and device.attachment_id not in held:
                told.append(f"server {server.id} has volume {device.volume_id} without an attachment")
    for host in seen.cloud.hosts.values():
        for volume_id, connected in host.pool.connectors.items():
            wanted = {one.host for one in held.values() if one.volume_id == volume_id and one.host}
            if connected != wanted:
                told.append(f"volume {volume_id} is connected to {sorted(connected)}, attached on {sorted(wanted)}")
    return told


def _hardware(seen: Seen) -> list[str]:
    told = []
    for server in seen.placed.values():
        guest = seen.cloud.hosts[server.host].machine.guests.get(server.id)
        if guest is not None and server.vm_state in POWER:
            told += differs(server, seen.devices[server.id], guest.spec)
            if guest.power is Power.RUNNING and boots_from_rescue(guest.spec) != (server.rescue is not None):
                told.append(f"guest {server.id} boots from {guest.spec.disks}, it is rescued: {server.rescue}")
    rescued = {server.id for server in seen.placed.values() if server.rescue is not None}
    for host in seen.cloud.hosts.values():
        told += [f"rescue disks of {id_} on {host.name}" for id_ in host.machine.rescue_disks - rescued]
    return told


def _volumes(seen: Seen) -> list[str]:
    known = {one.id: one for one in seen.ask("block_storage", rows.all_volumes)}
    busy = Counter(one.volume_id for one in seen.ask("block_storage", rows.all_attachments))
    told = [f"volume {id_} is in-use by nobody" for id_, one in known.items()
            if one.status == "in-use" and not busy[id_]]  # fmt: skip
    told += [f"volume {id_} is available, but attached" for id_, one in known.items()
             if one.status == "available" and busy[id_]]  # fmt: skip
    for host in seen.cloud.hosts.values():
        mine = {id_: one.size_gib for id_, one in known.items() if one.host == f"{host.name}@files"}
        told += [f"file of volume {id_} without a record" for id_ in host.pool.sizes if id_ not in mine]
        for id_, size in mine.items():
            if known[id_].status in ("available", "in-use") and host.pool.sizes.get(id_) != size:
                told.append(f"volume {id_} has {size} GiB, its file {host.pool.sizes.get(id_)}")
    return told
