"""Book-keeping: what must agree when nothing is under way. Each checker returns sentences; an empty list is balance."""

from __future__ import annotations

import msgspec

from kilonova.compute.contract import BlockDevice, Flavor, GuestSpec, Power
from kilonova.compute.scheduler.resources import resources_of
from kilonova.compute.server import migration_store, states
from kilonova.compute.server.migration_store import Migration
from kilonova.compute.server.store import Server
from kilonova.sim.cloud import SimCloud

UUID_LENGTH = 36  # a volume's serial is its id; a local disk's is shorter
POWERS = {
    states.ACTIVE: Power.RUNNING,
    states.STOPPED: Power.SHUTDOWN,
    states.PAUSED: Power.PAUSED,
    states.SUSPENDED: Power.SHUTDOWN,
    states.RESCUED: Power.RUNNING,
    states.SOFT_DELETED: Power.SHUTDOWN,
}


def check(cloud: SimCloud) -> list[str]:
    """Everything that does not add up, in words."""
    servers = cloud.servers()
    live = {server.id: server for server in servers if server.deleted_at is None}
    placed = {key: server for key, server in live.items() if server.host}
    return [
        *_nothing_under_way(servers),
        *_allocations(cloud, placed),
        *_guests(cloud, placed),
        *_disks(cloud, placed),
        *_ports(cloud, placed),
        *_attachments(cloud, live),
        *_hardware(cloud, placed),
    ]


def balance(cloud: SimCloud) -> None:
    """Raise what `check` found, if anything."""
    if found := check(cloud):
        raise AssertionError("; ".join(found))


def _nothing_under_way(servers: list[Server]) -> list[str]:
    return [
        f"server {server.id} is still {server.task_state or 'owned'} ({server.vm_state})"
        for server in servers
        if server.task_state or server.operation_id
    ]


def _allocations(cloud: SimCloud, placed: dict[str, Server]) -> list[str]:
    held = {key: next(iter(where)) for key, where in cloud.books.allocations.items() if where}
    names = {key: name for key, (name, _, _) in cloud.books.providers.items()}
    moving = _moving(cloud)
    told = [f"allocation of {key} without a server" for key in held if key not in placed and key not in moving]
    for key, migration in moving.items():
        wanted = resources_of(msgspec.convert(migration.old_flavor, Flavor), {}, from_volume=False)
        if list(cloud.books.allocations.get(key, {}).values()) != [wanted]:
            told.append(f"migration {key} of {migration.server_id} holds {cloud.books.allocations.get(key)}")
    for key, server in placed.items():
        where = names.get(held.get(key, ""), "nowhere")
        if where != server.node:
            told.append(f"server {key} is on {server.node}, its allocation {where}")
        elif server.image_id and server.vm_state != states.ERROR:
            wanted = resources_of(server.flavor_struct, {}, from_volume=False)
            if list(cloud.books.allocations[key].values()) != [wanted]:
                told.append(f"server {key} holds {cloud.books.allocations[key]}, not {wanted}")
    return told


def _moving(cloud: SimCloud) -> dict[str, Migration]:
    """Resizes that wait for their user's word."""
    with cloud.db.engine.connect() as connection:
        return {one.id: one for one in migration_store.every(connection) if one.status in migration_store.OPEN}


def _disks(cloud: SimCloud, placed: dict[str, Server]) -> list[str]:
    """Old disks are kept while a resize waits, and no longer; what a host counts is what is there."""
    waiting = {migration.server_id for migration in _moving(cloud).values()}
    told = []
    for host in cloud.hosts.values():
        machine = host.machine
        told += [f"disks of {key} without a server on {host.name}" for key in machine.disks if key not in placed]
        told += [
            f"rescue disks of {key} on {host.name}" for key in machine.rescue_disks if not _is_rescued(placed, key)
        ]
        told += [f"old disks of {key} on {host.name}" for key in machine.kept_disks if key not in waiting]
        counted = sum(machine.disk_gb_of.values()) + sum(gigabytes for _, gigabytes in machine.kept_disks.values())
        if machine.disk_gb_used != counted:
            told.append(f"{host.name} counts {machine.disk_gb_used} GB of disks, {counted} are there")
        for key, guest in machine.guests.items():
            server = placed.get(key)
            if (
                server is not None
                and guest.power is Power.RUNNING
                and guest.spec.memory_mb != server.flavor["memory_mb"]
            ):
                told.append(f"guest {key} has {guest.spec.memory_mb} MB, its flavor {server.flavor['memory_mb']}")
    return told


def _is_rescued(placed: dict[str, Server], server_id: str) -> bool:
    return server_id in placed and placed[server_id].rescue is not None


def _guests(cloud: SimCloud, placed: dict[str, Server]) -> list[str]:
    guests = cloud.guests()
    told = [f"guest {key} without a server on {where}" for key, where in guests.items() if key not in placed]
    told += [f"guest {key} twice: {where}" for key, where in guests.items() if len(where) > 1]
    for key, server in placed.items():
        if server.vm_state not in POWERS:
            continue
        guest = cloud.hosts[server.host].machine.guests.get(key)
        if guests.get(key) != [server.host] or guest is None or guest.power is not POWERS[server.vm_state]:
            seen = guest and guest.power
            told.append(f"server {key} is {server.vm_state} on {server.host}, its guest {seen} on {guests.get(key)}")
    return told


def _ports(cloud: SimCloud, placed: dict[str, Server]) -> list[str]:
    told = []
    for port_id, port in cloud.books.ports.items():
        server = placed.get(port.server_id)
        if port.server_id and (server is None or server.host != port.host):
            told.append(f"port {port_id} is bound for {port.server_id} on {port.host}")
        elif server is not None and port_id not in [one["id"] for one in server.ports]:
            told.append(f"server {server.id} does not know its port {port_id}")
    known = {port_id for port_id, port in cloud.books.ports.items() if port.server_id}
    for server in placed.values():
        told += [f"server {server.id} shows port {p['id']} that is not" for p in server.ports if p["id"] not in known]
    return told


def _attachments(cloud: SimCloud, live: dict[str, Server]) -> list[str]:
    told = []
    for attachment_id, held in cloud.books.attachments.items():
        server = live.get(held.server_id)
        if server is None or server.host != held.host:
            told.append(f"attachment {attachment_id} of volume {held.volume_id} for {held.server_id} on {held.host}")
    busy = {held.volume_id for held in cloud.books.attachments.values()}
    for snapshot_id, image_id in cloud.books.marks.items():
        if snapshot_id in cloud.books.snapshots and image_id not in cloud.books.images:
            told.append(f"snapshot {snapshot_id} was made for image {image_id}, which is not")
    for volume in cloud.books.volumes.values():
        if (volume.status == "available") == (volume.id in busy):
            told.append(f"volume {volume.id} is {volume.status}")
    return told


def _hardware(cloud: SimCloud, placed: dict[str, Server]) -> list[str]:
    """Every guest has the volumes and the NICs of its record, and no others."""
    told = [f"{path} is left on {name}" for name, host in cloud.hosts.items() for path in host.machine.snapshots]
    for server in placed.values():
        guest = cloud.hosts[server.host].machine.guests.get(server.id)
        if guest is not None:
            told += differs(server, cloud.devices(server.id), guest.spec)
            if guest.power is Power.RUNNING and boots_from_rescue(guest.spec) != (server.rescue is not None):
                told.append(f"the guest of {server.id} boots from {guest.spec.disks}, it is rescued: {server.rescue}")
    return told


def boots_from_rescue(spec: GuestSpec) -> bool:
    """Whether the disk that it boots from is the rescue disk."""
    return any(disk.serial == "rescue" and disk.boot_order == 1 for disk in spec.disks)


def differs(server: Server, devices: list[BlockDevice], spec: GuestSpec) -> list[str]:
    """What the guest of a settled server has and its record does not, or the other way round."""
    told = [f"device {device.id} of {server.id} is still {device.under_way}" for device in devices if device.under_way]
    has = sorted(disk.serial for disk in spec.disks if len(disk.serial) == UUID_LENGTH)
    should = sorted(device.volume_id for device in devices if device.destination_type == "volume")
    if has != should:
        told.append(f"the guest of {server.id} has volumes {has}, its record {should}")
    macs, ports = sorted(nic.mac for nic in spec.nics), sorted(port["mac"] for port in server.ports)
    if macs != ports:
        told.append(f"the guest of {server.id} has NICs {macs}, its record {ports}")
    return told
