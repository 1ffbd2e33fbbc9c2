"""The security groups of one host in the kernel: one transaction per change, numbers adopted after a restart."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from kilonova.base.faults import Fault
from kilonova.network.contract import WantedGroup, WantedPort
from kilonova.node.vswitch import conntrack, nft
from kilonova.node.vswitch import security_groups as render
from kilonova.node.vswitch.flows import still_allowed

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PortAt:
    """A port and where it is plugged."""

    port: WantedPort
    interface: str
    bridge: str


class PortFilters:
    """What each port of this host may send and receive. Runs in a thread of the host's namespace."""

    def __init__(self, prefix: str) -> None:
        self.table = render.table_name(prefix)
        self._ports: dict[str, PortAt] = {}
        self._groups: dict[str, WantedGroup] = {}
        self._numbers: dict[str, int] = {}  # interface → the port's number in marks and chain names
        self._zones: dict[str, int] = {}  # bridge → connection zone
        self._adopted = False

    def apply(
        self, ports: Sequence[PortAt], gone: Iterable[str], groups: Iterable[WantedGroup], *, full: bool
    ) -> set[str]:
        """Make the kernel filter so. Returns the ids of ports whose rules it refused; those stay closed."""
        if not self._adopted:
            self._adopt()
        before, changed = dict(self._ports), self._take_groups(groups, full=full)
        leaving = [self._ports.pop(id_) for id_ in set(gone) if id_ in self._ports]
        if full:
            listed = {at.port.id for at in ports}
            leaving += [self._ports.pop(id_) for id_ in set(self._ports) - listed]
        known = set(self._numbers)
        self._ports.update((at.port.id, at) for at in ports)
        touched = list(self._ports.values()) if full else list(ports)
        refused = self._commit(self._batches(touched, known, full=full, changed=changed))
        self._drop(leaving, full=full)
        self._cut_what_is_not_allowed(before, changed, leaving)
        return refused

    def purge(self) -> None:
        """Filter nothing any more."""
        for family in ("bridge", "inet"):
            nft.run(f"add table {family} {self.table}\ndelete table {family} {self.table}")
        self.__init__(self.table[:-2])  # type: ignore[misc]

    def _adopt(self) -> None:
        for name, number in nft.elements("bridge", self.table, "map", "numbers"):
            self._numbers[name] = int(number)
        for name, zone in nft.elements("inet", self.table, "map", "zones"):
            self._zones[name] = int(zone)
        self._adopted = True

    def _take_groups(self, groups: Iterable[WantedGroup], *, full: bool) -> set[str]:
        """Keep the groups; answers the ids of those that allow less than before, or may."""
        taken = {group.id: group for group in groups}
        narrower = {id_ for id_, group in taken.items() if _narrower(self._groups.get(id_), group)}
        if full:
            narrower |= set(self._groups) - set(taken)
            self._groups = taken
        else:
            self._groups.update(taken)
        self._taken = taken
        return narrower

    def _number(self, numbers: dict[str, int], name: str) -> int:
        if name not in numbers:
            used = set(numbers.values())
            start = max(used, default=0) % 60000
            numbers[name] = next(n for n in itertools.chain(range(start + 1, 65536), range(1, 65536)) if n not in used)
        return numbers[name]

    def _batches(
        self, ports: Sequence[PortAt], known: set[str], *, full: bool, changed: set[str]
    ) -> list[tuple[str, list[str]]]:
        """(port id or "", commands), in an order in which each may also be run alone."""
        start = [render.base(self.table)]
        if full:
            maps = (("bridge", "numbers"), ("bridge", "spoof"), ("inet", "from_guest"), ("inet", "to_guest"))
            start += [f"flush map {family} {self.table} {name}" for family, name in maps]
        named = {id_ for at in ports for id_ in at.port.security_groups}
        named |= {rule.remote_group for group in self._taken.values() for rule in group.rules if rule.remote_group}
        for id_ in sorted(named | set(self._taken)):  # all exist before anything names them
            start += [f"add chain inet {self.table} {render.group_chain(id_, way)}" for way in ("egress", "ingress")]
            if id_ not in self._groups:
                start += render.members(self.table, id_, ())
        batches = [("", start)]
        batches += [("", self._members(group)) for group in self._taken.values()]
        batches += [("", self._group(group)) for group in self._taken.values()]
        return batches + [(at.port.id, self._port(at, fresh=at.interface not in known)) for at in ports]

    def _members(self, group: WantedGroup) -> list[str]:
        valid = [text for text in group.member_ips if _is_address(text)]
        return render.members(self.table, group.id, valid)

    def _group(self, group: WantedGroup) -> list[str]:
        lines: list[str] = []
        for way in ("egress", "ingress"):
            rules, refused = render.group_rules(group, way)
            for sentence in refused:
                log.warning("security rule left out: %s", sentence)
            lines += render.chain("inet", self.table, render.group_chain(group.id, way), rules)
        return lines

    def _port(self, at: PortAt, *, fresh: bool) -> list[str]:
        zone = self._number(self._zones, at.bridge)
        lines = [f'add element inet {self.table} zones {{ "{at.bridge}" : {zone} }}']
        if at.port.device_owner.startswith("network:"):
            return lines
        number = self._number(self._numbers, at.interface)
        if not at.port.port_security:
            return lines + self._open(at.interface, number)
        stateful = all(self._groups[id_].stateful for id_ in at.port.security_groups if id_ in self._groups)
        lines += render.spoof_chain(self.table, at.port, number)
        lines += render.port_chains(self.table, at.port, number, stateful=stateful)
        lines += [
            f'add element bridge {self.table} numbers {{ "{at.interface}" : {number} }}',
            f'add element bridge {self.table} spoof {{ "{at.interface}" : jump s{number} }}',
            f"add element inet {self.table} from_guest {{ {number} : jump e{number} }}",
            f"add element inet {self.table} to_guest {{ {number} : jump i{number} }}",
        ]
        if fresh:
            seconds = render.ARRIVAL_SECONDS
            lines.append(f"add element inet {self.table} arrived {{ {number} timeout {seconds}s }}")
        return lines

    def _open(self, interface: str, number: int) -> list[str]:
        """Port security is off: no chain is reached any more."""
        add = [f'add element bridge {self.table} numbers {{ "{interface}" : {number} }}']
        return add + self._unreach(interface, number)

    def _unreach(self, interface: str, number: int) -> list[str]:
        """Deleting an element that is not there is an error, so each is added first."""
        lines: list[str] = []
        for family, name, key, target in (
            ("bridge", "spoof", f'"{interface}"', f"s{number}"),
            ("inet", "from_guest", str(number), f"e{number}"),
            ("inet", "to_guest", str(number), f"i{number}"),
        ):
            lines += [
                f"add chain {family} {self.table} {target}",
                f"add element {family} {self.table} {name} {{ {key} : jump {target} }}",
                f"delete element {family} {self.table} {name} {{ {key} }}",
            ]
        return lines

    def _commit(self, batches: list[tuple[str, list[str]]]) -> set[str]:
        try:
            nft.run("\n".join(line for _, lines in batches for line in lines))
            return set()
        except Fault as fault:
            log.warning("rules refused together, trying one by one: %s", fault.inside)
        refused = set()
        for port_id, lines in batches:
            try:
                nft.run("\n".join(lines))
            except Fault as fault:
                log.warning("rules of port %s refused: %s", port_id or "none", fault.inside)
                refused.add(port_id)
        return refused - {""}

    def _drop(self, leaving: Sequence[PortAt], *, full: bool) -> None:
        """Take away what ports that left have behind them; if `full`, also what an earlier life of ours left."""
        lines: list[str] = []
        for at in () if full else leaving:
            if number := self._numbers.pop(at.interface, None):
                lines += self._unreach(at.interface, number)
                lines += [f"delete chain inet {self.table} {way}{number}" for way in "ei"]
                lines.append(f"delete chain bridge {self.table} s{number}")
                lines += [
                    f'add element bridge {self.table} numbers {{ "{at.interface}" : {number} }}',
                    f'delete element bridge {self.table} numbers {{ "{at.interface}" }}',
                ]
        if full:
            lines += self._leftovers()
        if lines:
            nft.run("\n".join(lines))

    def _leftovers(self) -> list[str]:
        interfaces = {at.interface for at in self._ports.values()}
        self._numbers = {name: number for name, number in self._numbers.items() if name in interfaces}
        keep = {f"{way}{number}" for number in self._numbers.values() for way in "eis"}
        used = {id_ for at in self._ports.values() for id_ in at.port.security_groups} | set(self._groups)
        used |= {rule.remote_group for group in self._groups.values() for rule in group.rules}
        keep |= {render.group_chain(id_, way) for id_ in used for way in ("egress", "ingress")}
        keep |= {"prerouting", "postrouting", "forward", "always_in", "always_out"}
        keep_sets = {render.members_set(id_, version) for id_ in used for version in (4, 6)} | {"arrived"}
        chains, sets = [], []
        for family in ("bridge", "inet"):
            for item in nft.query(f"list table {family} {self.table}") or []:
                if (found := item.get("chain")) and found["name"] not in keep:
                    chains.append(f"{family} {self.table} {found['name']}")
                if (found := item.get("set")) and found["name"] not in keep_sets:
                    sets.append(f"{family} {self.table} {found['name']}")
        flush = [f"flush chain {name}" for name in chains]
        return flush + [f"delete chain {name}" for name in chains] + [f"delete set {name}" for name in sets]

    def _cut_what_is_not_allowed(
        self, before: Mapping[str, PortAt], changed: set[str], leaving: Sequence[PortAt]
    ) -> None:
        affected: dict[int, list[WantedPort]] = {}
        for id_, at in self._ports.items():
            if at.port.port_security and self._allows_less(before.get(id_), at, changed):
                affected.setdefault(self._zones.get(at.bridge, 0), []).append(at.port)
        gone = {(self._zones.get(at.bridge, 0), ip_address(ip.address)) for at in leaving for ip in at.port.fixed_ips}
        if not affected and not gone:
            return
        for connection in conntrack.connections():
            ends = {(connection.zone, connection.source), (connection.zone, connection.answered_by)}
            ports = affected.get(connection.zone, ())
            if ends & gone or not all(still_allowed(port, self._groups, connection) for port in ports):
                conntrack.cut(connection)

    def _allows_less(self, old: PortAt | None, new: PortAt, changed: set[str]) -> bool:
        if old is None or not set(old.port.security_groups) <= set(new.port.security_groups):
            return True
        groups = [self._groups[id_] for id_ in new.port.security_groups if id_ in self._groups]
        named = {rule.remote_group for group in groups for rule in group.rules}
        return bool(changed & (named | set(new.port.security_groups)))


def _narrower(old: WantedGroup | None, new: WantedGroup) -> bool:
    if old is None:
        return True
    return not (set(old.rules) <= set(new.rules) and set(old.member_ips) <= set(new.member_ips))


def _is_address(text: str) -> bool:
    try:
        render.members("t", "g", (text,))
    except Fault:
        log.warning("group member left out: %r is no address", text)
        return False
    return True
