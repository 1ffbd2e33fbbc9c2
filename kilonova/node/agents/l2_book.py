"""What an L2 agent knows of its host's ports and of what they need: news of a port is built without asking network.

Messages may be late and come twice. A port's revision grows with each of its changes, that it is gone being the last;
what bears a lower one than what is known is old. Whether a host has the network and the groups of a new port, and is
told of all their changes, network decides in the unit that makes the port; the agent asks all the same when it does
not have them (any more). What network answers is later than all that was heard before it was asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from msgspec.structs import replace

from kilonova.network.contract import Member, PortNews, Vtep, WantedGroup, WantedL2, WantedPort

GONE_KEPT = 1000  # revisions that are kept of ports that are not known any more, when everything is fetched


class Heard(msgspec.Struct):
    """What is to be done because of news."""

    ports: list[WantedPort]
    gone: list[str]
    groups: set[str]  # whose members changed
    unknown: set[str]  # ports to ask for, as their network or groups are not known here


class L2Book:
    """Ports of the host, groups with their members, tunnel ends, and the latest revision heard of each port."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._revisions: dict[str, int] = {}  # the latest heard of stand last
        self._forget()

    def _forget(self) -> None:
        self._ports: dict[str, WantedPort] = {}
        self._groups: dict[str, WantedGroup] = {}
        self._members: dict[str, dict[str, tuple[str, ...]]] = {}  # group that a rule names → port → its addresses
        self._vteps: dict[str, tuple[Vtep, ...]] = {}  # network → other hosts that have ports of it

    def learn(self, wanted: WantedL2) -> None:
        """What network answered is so."""
        if wanted.full:
            self._forget()
            self._revisions = dict(list(self._revisions.items())[-GONE_KEPT:])
        for id_ in wanted.gone_ports:
            self._ports.pop(id_, None)
        for port in wanted.ports:
            self._ports[port.id] = port
            self._vteps[port.network_id] = ()
            self._revisions[port.id] = port.revision
        for vtep in wanted.vteps:
            self._vteps[vtep.network_id] = (*self._vteps.get(vtep.network_id, ()), vtep)
        for group in wanted.groups:
            self._groups[group.id] = group
            self._members |= {rule.remote_group: {} for rule in group.rules if rule.remote_group}
        for member in wanted.members:
            self._revisions[member.port_id] = member.revision
            for group_id in member.groups:
                self._members[group_id][member.port_id] = member.ips

    def hear(self, several: Sequence[PortNews]) -> Heard:
        """What was told is so too, where nothing later is known."""
        later = [one for one in several if one.member.revision >= self._revisions.get(one.member.port_id, -1)]
        heard = Heard([], [], set(), set())
        for one in later:
            id_ = one.member.port_id
            self._revisions.pop(id_, None)
            self._revisions[id_] = one.member.revision
            self._count(one.member, heard.groups)
            if one.host != self._host and self._ports.pop(id_, None) is not None:
                heard.gone.append(id_)
        # Of a network or group whose last port left nobody was told since; its tunnels are gone, its rules may be old.
        networks = {port.network_id for port in self._ports.values()}
        groups = {group for port in self._ports.values() for group in port.security_groups}
        for port in [one.port for one in later if one.port]:
            if port.network_id in networks and groups.issuperset(port.security_groups):
                self._ports[port.id] = port
                heard.ports.append(port)
            else:
                heard.unknown.add(port.id)
        return heard

    def _count(self, member: Member, touched: set[str]) -> None:
        """The port is a member of its groups and of no others, as far as groups are known here."""
        for group_id, members in self._members.items():
            if group_id in member.groups:
                members[member.port_id] = member.ips
            elif members.pop(member.port_id, None) is None:
                continue
            touched.add(group_id)

    def to_build(self, heard: Heard, answer: WantedL2) -> WantedL2:
        """What the host must be made like, after both were noted here; the answer is what is right of a port."""
        if answer.full:
            return replace(answer, groups=self._with_members({group.id for group in answer.groups}))
        answered = {port.id for port in answer.ports}.union(answer.gone_ports)
        ports = (*answer.ports, *[port for port in heard.ports if port.id not in answered])
        networks = dict.fromkeys(port.network_id for port in ports)
        return WantedL2(
            ports=ports,
            gone_ports=(*answer.gone_ports, *[id_ for id_ in heard.gone if id_ not in answered]),
            groups=self._with_members(heard.groups.union(group.id for group in answer.groups)),
            vteps=tuple([vtep for network_id in networks for vtep in self._vteps.get(network_id, ())]),
        )

    def _with_members(self, ids: Iterable[str]) -> tuple[WantedGroup, ...]:
        made = []
        for id_ in sorted(self._groups.keys() & set(ids)):
            ips = {ip for ips in self._members.get(id_, {}).values() for ip in ips}
            made.append(replace(self._groups[id_], member_ips=tuple(sorted(ips))))
        return tuple(made)
