"""What compute's peers keep, in memory: placement, network, block storage and image for simulation and API tests.

`Books` is the world's truth and survives every process; the peers are one process' way to it. They take time, so that
a simulation interleaves, and POSTs are idempotent by key, as the real services' are.
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Sequence
from typing import Any

import msgspec

from kilonova.base.faults import Fault, Kind, conflict, not_found
from kilonova.base.world import World
from kilonova.block_storage.contract import (
    Attachment,
    Connection,
    Connector,
    NewSnapshot,
    NewVolume,
    SnapshotRef,
    VolumeRef,
)
from kilonova.compute.contract import Destination, Fit, Rejection, RequestSpec
from kilonova.image.contract import NOT_ASKED, ImageRef, NewImage, Trust
from kilonova.network.contract import FixedIp, PortBinding, PortRequest, ServerNics
from kilonova.placement.contract import (
    Candidates,
    Changes,
    Claimed,
    ClaimRequest,
    ClaimResult,
    Inventory,
    ProviderBooks,
    ProviderSummary,
)

NETWORK = "00000000-0000-4000-8000-0000000000aa"
IMAGE = "00000000-0000-4000-8000-0000000000bb"


class Port(msgspec.Struct):
    """A port and whose it is."""

    binding: PortBinding
    server_id: str
    host: str


class Held(msgspec.Struct):
    """An attachment of a volume."""

    volume_id: str
    server_id: str
    host: str = ""


class Books(msgspec.Struct):
    """What the peers hold."""

    providers: dict[str, tuple[str, dict[str, Inventory], tuple[str, ...]]] = {}
    allocations: dict[str, dict[str, dict[str, int]]] = {}  # consumer → provider → resources
    ports: dict[str, Port] = {}
    volumes: dict[str, VolumeRef] = {}
    snapshots: dict[str, SnapshotRef] = {}
    marks: dict[str, str] = {}  # snapshot → the mark it was made with
    attachments: dict[str, Held] = {}
    images: dict[str, ImageRef] = {}
    keys: dict[str, str] = {}
    refuse: dict[str, list[Fault]] = {}  # verb → faults of its next calls
    made: int = 0

    def check(self, verb: str) -> None:
        """Raise the fault that waits for `verb`."""
        if waiting := self.refuse.get(verb):
            raise waiting.pop(0)

    def used(self, provider_id: str) -> dict[str, int]:
        """What is allocated on a provider."""
        total: dict[str, int] = {}
        for held in self.allocations.values():
            for name, amount in held.get(provider_id, {}).items():
                total[name] = total.get(name, 0) + amount
        return total

    def has_room(self, provider_id: str, resources: dict[str, int], consumer_id: str = "") -> bool:
        """Whether `resources` fit besides what others hold."""
        used = self.used(provider_id)
        mine = self.allocations.get(consumer_id, {}).get(provider_id, {})
        inventories = self.providers[provider_id][1]
        return all(
            name in inventories
            and used.get(name, 0) - mine.get(name, 0) + amount
            <= (inventories[name].total - inventories[name].reserved) * inventories[name].allocation_ratio
            for name, amount in resources.items()
        )


class _Peer:
    def __init__(self, world: World, books: Books) -> None:
        self.world = world
        self.books = books

    async def _take_time(self, verb: str) -> None:
        await self.world.clock.sleep(self.world.random.random() * 0.2)
        self.books.check(verb)

    def _once(self, key: str) -> str:
        """A new id, or the one that this key made."""
        if key not in self.books.keys:
            self.books.keys[key] = self.world.ids.uuid()
        return self.books.keys[key]


class SimPlacement(_Peer):
    """Placement of `Books`."""

    async def changes(self, since: str) -> Changes:
        await self._take_time("changes")
        found = []
        for id_, (name, inventories, traits) in self.books.providers.items():
            used = dict.fromkeys(inventories, 0) | self.books.used(id_)
            found.append(ProviderBooks(id_, name, 1, None, id_, inventories, used, traits))
        return Changes(self._position(), whole=True, providers=tuple(found))

    def _position(self) -> str:
        return str(zlib.crc32(msgspec.json.encode([self.books.providers, self.books.allocations])))

    async def claim_as_known(
        self, position: str, claims: Sequence[ClaimRequest], *, even_if_changed: bool = False
    ) -> Claimed:
        if position != self._position() and not even_if_changed:
            return Claimed((), await self.changes(position))
        return Claimed(tuple(await self.claim_many(claims)), await self.changes(position))

    async def claim_many(self, claims: Sequence[ClaimRequest]) -> list[ClaimResult]:
        await self._take_time("claim_many")
        return [self._claim(one) for one in claims]

    def _claim(self, claim: ClaimRequest) -> ClaimResult:
        for provider_id, resources in claim.allocations.items():
            if not self.books.has_room(provider_id, resources, claim.consumer_id):
                return ClaimResult(claim.consumer_id, "no_room", provider_id)
        self.books.allocations[claim.consumer_id] = {id_: dict(given) for id_, given in claim.allocations.items()}
        return ClaimResult(claim.consumer_id)

    async def ensure_provider(
        self, provider_id: str, name: str, inventories: dict[str, Inventory], traits: list[str]
    ) -> None:
        await self._take_time("ensure_provider")
        self.books.providers[provider_id] = (name, inventories, tuple(traits))

    async def providers(self) -> list[ProviderSummary]:
        await self._take_time("providers")
        return [self._summary(one) for one in self.books.providers]

    async def candidates(self, resources: dict[str, int], required: list[str], forbidden: list[str]) -> Candidates:
        await self._take_time("candidates")
        return Candidates(
            tuple(self._summary(one) for one in self.books.providers if self.books.has_room(one, resources))
        )

    async def claim(
        self, consumer_id: str, provider_id: str, resources: dict[str, int], project_id: str, user_id: str
    ) -> bool:
        await self._take_time("claim")
        if not self.books.has_room(provider_id, resources, consumer_id):
            return False
        self.books.allocations[consumer_id] = {provider_id: dict(resources)}
        return True

    async def move(self, from_id: str, to_id: str, to_type: str) -> None:
        await self._take_time("move")
        if held := self.books.allocations.pop(from_id, None):
            self.books.allocations[to_id] = held

    async def release(self, consumer_id: str) -> None:
        await self._take_time("release")
        self.books.allocations.pop(consumer_id, None)

    async def allocations(self, consumer_id: str) -> dict[str, dict[str, int]]:
        await self._take_time("allocations")
        return self.books.allocations.get(consumer_id, {})

    async def consumers_on(self, provider_id: str) -> list[str]:
        await self._take_time("consumers_on")
        return [one for one, held in self.books.allocations.items() if provider_id in held]

    def _summary(self, provider_id: str) -> ProviderSummary:
        name, inventories, traits = self.books.providers[provider_id]
        capacity = {key: int((i.total - i.reserved) * i.allocation_ratio) for key, i in inventories.items()}
        return ProviderSummary(provider_id, name, 1, capacity, self.books.used(provider_id), traits)


class SimNetworks(_Peer):
    """One network that everybody may use; a port is up as soon as it is bound."""

    async def check(self, token: str, project_id: str, requests: list[PortRequest]) -> list[PortRequest]:
        await self._take_time("check")
        for request in requests:
            if request.network_id and request.network_id != NETWORK:
                raise not_found("Network", request.network_id)
            if request.port_id and request.port_id not in self.books.ports:
                raise not_found("Port", request.port_id)
        return requests or [PortRequest(network_id=NETWORK)]

    async def check_security_groups(self, token: str, project_id: str, groups: list[str]) -> None:
        await self._take_time("check_security_groups")
        for group in groups:
            if group != "default":
                raise not_found("Security group", group)

    async def bind(self, token: str, key: str, nics: ServerNics) -> list[PortBinding]:
        await self._take_time("bind")
        return copy.deepcopy([self._bound(key, nics, number, one) for number, one in enumerate(nics.requests)])

    def _bound(self, key: str, nics: ServerNics, number: int, request: PortRequest) -> PortBinding:
        port_id = request.port_id or self._once(f"{key}/{number}")
        port = self.books.ports.get(port_id)
        if port is None:
            self.books.made += 1
            count = self.books.made
            ip = FixedIp(f"10.0.{count // 250}.{count % 250 + 2}", "subnet", "10.0.0.0/16", "10.0.0.1")
            mac = f"fa:16:3e:00:{count // 250:02x}:{count % 250:02x}"
            binding = PortBinding(port_id, NETWORK, "private", mac, [ip], 1450, "ACTIVE", request.tag, True)
            binding.security_groups = list(nics.security_groups)
            port = self.books.ports[port_id] = Port(binding, nics.server_id, nics.host)
        port.server_id, port.host = nics.server_id, nics.host
        return port.binding

    async def unbind(self, token: str, server_id: str, ports: list[PortBinding]) -> None:
        await self._take_time("unbind")
        for port_id, port in list(self.books.ports.items()):
            if port.server_id == server_id:
                if port.binding.made_by_us:
                    del self.books.ports[port_id]
                else:
                    port.server_id = port.host = ""

    async def security_groups_of(self, token: str, server_id: str) -> list[dict[str, Any]]:
        await self._take_time("security_groups_of")
        names = {name for port in self._of(server_id) for name in port.binding.security_groups or []}
        return [{"id": name, "name": name, "description": "", "project_id": "project", "security_group_rules": []}
                for name in sorted(names)]  # fmt: skip

    async def add_security_group(self, token: str, project_id: str, server_id: str, group: str) -> None:
        await self.check_security_groups(token, project_id, [group])
        for port in self._of(server_id):
            port.binding.security_groups = sorted({*(port.binding.security_groups or []), group})

    async def remove_security_group(self, token: str, project_id: str, server_id: str, group: str) -> None:
        await self.check_security_groups(token, project_id, [group])
        for port in self._of(server_id):
            port.binding.security_groups = [name for name in port.binding.security_groups or [] if name != group]

    async def add_fixed_ip(self, token: str, server_id: str, network_id: str) -> None:
        await self._take_time("add_fixed_ip")
        self.books.made += 1
        ip = FixedIp(f"10.1.0.{self.books.made}", "subnet", "10.0.0.0/8", "10.0.0.1")
        self._of(server_id)[0].binding.fixed_ips.append(ip)

    async def remove_fixed_ip(self, token: str, server_id: str, address: str) -> None:
        await self._take_time("remove_fixed_ip")
        for port in self._of(server_id):
            port.binding.fixed_ips = [ip for ip in port.binding.fixed_ips if ip.address != address]

    def _of(self, server_id: str) -> list[Port]:
        return [port for port in self.books.ports.values() if port.server_id == server_id]

    async def release(self, token: str, server_id: str, port: PortBinding) -> None:
        await self._take_time("release_port")
        known = self.books.ports.get(port.id)
        if known is not None and known.server_id == server_id:
            if known.binding.made_by_us:
                del self.books.ports[port.id]
            else:
                known.server_id = known.host = ""

    async def port_states(self, token: str, server_id: str) -> dict[str, str]:
        return {port.id: port.status for port in await self.ports_of(token, server_id)}

    async def ports_of(self, token: str, server_id: str) -> list[PortBinding]:
        await self._take_time("ports_of")
        mine = [port.binding for port in self.books.ports.values() if port.server_id == server_id]
        return copy.deepcopy(mine)


class SimVolumes(_Peer):
    """Volumes that are ready at once."""

    def _volume(self, volume_id: str) -> VolumeRef:
        try:
            return self.books.volumes[volume_id]
        except KeyError:
            raise not_found("Volume", volume_id) from None

    async def show(self, token: str, volume_id: str) -> VolumeRef:
        await self._take_time("show_volume")
        return self._volume(volume_id)

    async def show_snapshot(self, token: str, snapshot_id: str) -> SnapshotRef:
        await self._take_time("show_snapshot")
        try:
            return self.books.snapshots[snapshot_id]
        except KeyError:
            raise not_found("Snapshot", snapshot_id) from None

    async def create_snapshot(self, token: str, key: str, snapshot: NewSnapshot) -> SnapshotRef:
        await self._take_time("create_snapshot")
        volume = self._volume(snapshot.volume_id)
        snapshot_id = self._once(key)
        made = SnapshotRef(snapshot_id, "available", volume.size_gib, volume.id)
        self.books.marks[snapshot_id] = snapshot.mark
        return self.books.snapshots.setdefault(snapshot_id, made)

    async def snapshots_marked(self, token: str, mark: str) -> list[SnapshotRef]:
        await self._take_time("snapshots_marked")
        return [one for one in self.books.snapshots.values() if self.books.marks.get(one.id) == mark]

    async def delete_snapshot(self, token: str, snapshot_id: str) -> None:
        await self._take_time("delete_snapshot")
        self.books.snapshots.pop(snapshot_id, None)

    async def create(self, token: str, key: str, volume: NewVolume) -> VolumeRef:
        await self._take_time("create_volume")
        known = key in self.books.keys
        volume_id = self._once(key)
        if known:  # as the real service: a key's volume is made once, even if it was deleted since
            return self._volume(volume_id)
        if volume_id not in self.books.volumes:
            bootable = bool(volume.image_id or volume.snapshot_id)
            snapshot = self.books.snapshots.get(volume.snapshot_id)
            size_gib = volume.size_gib or (snapshot.size_gib if snapshot else 0)
            self.books.volumes[volume_id] = VolumeRef(
                volume_id, volume.name, "available", size_gib, bootable, False, "nova"
            )
        return self.books.volumes[volume_id]

    async def delete(self, token: str, volume_id: str) -> None:
        await self._take_time("delete_volume")
        if any(held.volume_id == volume_id for held in self.books.attachments.values()):
            raise conflict(f"Volume {volume_id} is attached.")
        self.books.volumes.pop(volume_id, None)

    async def delete_unless_needed(self, token: str, volume_id: str) -> bool:
        await self.delete(token, volume_id)
        return True

    async def reserve(self, token: str, key: str, volume_id: str, server_id: str) -> str:
        await self._take_time("reserve")
        volume = self._volume(volume_id)
        attachment_id = self.books.keys.get(key, "")
        if attachment_id in self.books.attachments:
            return attachment_id
        if volume.status != "available":
            raise conflict(f"Volume {volume_id} is {volume.status}, not available.")
        self.books.keys[key] = attachment_id = self.world.ids.uuid()
        volume.status = "reserved"
        self.books.attachments[attachment_id] = Held(volume_id, server_id)
        return attachment_id

    def _held(self, attachment_id: str) -> Held:
        try:
            return self.books.attachments[attachment_id]
        except KeyError:
            raise not_found("Attachment", attachment_id) from None

    async def attachments_of(self, token: str, server_id: str) -> list[Attachment]:
        await self._take_time("attachments_of")
        held = self.books.attachments.items()
        return [Attachment(id_, one.volume_id) for id_, one in held if one.server_id == server_id]

    async def connect(self, token: str, attachment_id: str, connector: Connector, device: str) -> Attachment:
        await self._take_time("connect")
        held = self._held(attachment_id)
        held.host = connector.host
        self._volume(held.volume_id).status = "attaching"
        data = {"path": f"/nonexistent/volumes/{held.volume_id}", "format": "raw"}
        return Attachment(attachment_id, held.volume_id, Connection("file", data))

    async def complete(self, token: str, attachment_id: str) -> None:
        await self._take_time("complete")
        self._volume(self._held(attachment_id).volume_id).status = "in-use"

    async def detach(self, token: str, attachment_id: str) -> None:
        await self._take_time("detach")
        held = self.books.attachments.pop(attachment_id, None)
        if held is not None and held.volume_id in self.books.volumes:
            self.books.volumes[held.volume_id].status = "available"


class SimImages(_Peer):
    """Images without bytes."""

    async def show(self, token: str, image_id: str) -> ImageRef:
        await self._take_time("show_image")
        try:
            return self.books.images[image_id]
        except KeyError:
            raise not_found("Image", image_id) from None

    async def download(self, token: str, image_id: str, path: str, trust: Trust = NOT_ASKED) -> None:
        await self._take_time("download")

    async def places(self, token: str, image_id: str) -> list[str]:
        return []

    async def prove(self, token: str, image_id: str, trust: Trust = NOT_ASKED) -> None:
        await self._take_time("prove_image")

    async def create(self, token: str, image: NewImage) -> None:
        await self._take_time("create_image")
        if image.id in self.books.images:
            raise conflict(f"Image {image.id} is there already.")
        self.books.images[image.id] = ImageRef(
            image.id, image.name, "queued", image.disk_format, "bare", 0, image.min_ram_mb, image.min_disk_gb, "owner",
            "private", properties=dict(image.properties),
        )  # fmt: skip

    async def upload(self, token: str, image_id: str, path: str) -> None:
        await self._take_time("upload_image")
        image = await self.show(token, image_id)
        if image.status == "active":
            raise conflict(f"Image {image_id} has its bytes already.")
        self.books.images[image_id] = msgspec.structs.replace(image, status="active", size=1 << 20)

    async def describe(self, token: str, image_id: str, properties: dict[str, str]) -> None:
        await self._take_time("describe_image")
        image = await self.show(token, image_id)
        self.books.images[image_id] = msgspec.structs.replace(image, properties=image.properties | properties)

    async def newest_first(self, token: str, properties: dict[str, str]) -> list[str]:
        await self._take_time("list_images")
        return [
            image.id
            for image in reversed(self.books.images.values())
            if image.status == "active" and properties.items() <= image.properties.items()
        ]

    async def activate_empty(self, token: str, image_id: str) -> None:
        await self._take_time("activate_image")
        self.books.images[image_id] = msgspec.structs.replace(await self.show(token, image_id), status="active")

    async def delete(self, token: str, image_id: str) -> None:
        await self._take_time("delete_image")
        self.books.images.pop(image_id, None)


class SimScheduler(_Peer):
    """Picks any host with room, by chance: what the real scheduler promises, without its judgement."""

    def __init__(self, world: World, books: Books) -> None:
        super().__init__(world, books)
        self.placement = SimPlacement(world, books)

    async def select_destinations(self, spec: RequestSpec) -> list[Destination]:
        fits = list((await self.placement.candidates(spec.resources, [], [])).fits)
        fits = [one for one in fits if spec.requested_host in ("", one.name)]
        self.world.random.shuffle(fits)
        for number, chosen in enumerate(fits):
            if await self.placement.claim(spec.server_id, chosen.id, spec.resources, spec.project_id, spec.user_id):
                return [Destination(one.name, one.name, one.id, spec.resources) for one in fits[number : number + 3]]
        raise _no_valid_host()

    async def refusals(self, spec: RequestSpec) -> list[Rejection]:
        await self._take_time("refusals")
        if spec.image_properties.get("hw_architecture", "x86_64") == "x86_64":
            return []
        return [Rejection(spec.requested_host, "ImagePropertiesFilter", "the image is for other processors")]

    async def could_boot(self, spec: RequestSpec, count: int) -> Fit:
        await self._take_time("could_boot")
        fits = (await self.placement.candidates(spec.resources, [], [])).fits
        return Fit(min(count, len(fits)), {one.name: 1 for one in fits[:count]})


def _no_valid_host() -> Fault:
    return Fault(Kind.NO_CAPACITY, "No valid host was found. There are not enough hosts available.", code="NoValidHost")


def sample_image(image_id: str = IMAGE) -> ImageRef:
    """A small active image."""
    return ImageRef(image_id, "cirros", "active", "qcow2", "bare", 20 << 20, 0, 1, "owner", "public", 100 << 20)
