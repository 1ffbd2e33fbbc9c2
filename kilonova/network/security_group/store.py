"""Security groups and rules in the database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import Fault, conflict
from kilonova.db.statements import delete, insert_all, read, update
from kilonova.network import rows_store, schema, told_store
from kilonova.network.door import absent
from kilonova.network.outbox import store as outbox
from kilonova.network.quota import store as quota
from kilonova.network.rows_store import Listing, Standard, Wanted
from kilonova.network.work import Work

_groups = schema.security_groups
_rules = schema.rules
_members = schema.port_groups


class Rule(Standard, kw_only=True):
    """A rule as it is stored. Protocol "" is any."""

    group_id: str
    direction: str
    ethertype: str
    protocol: str = ""
    port_min: int | None = None
    port_max: int | None = None
    remote_cidr: str = ""
    remote_group: str = ""
    sameness: str = ""


class Group(Standard, kw_only=True):
    """A security group with its rules."""

    stateful: bool = True
    is_default: bool = False
    rules: list[Rule] = msgspec.field(default_factory=list)


def no_group(id_: str) -> Fault:
    """There is no such group for this caller."""
    return absent("Security group", id_)


def no_rule(id_: str) -> Fault:
    """There is no such rule for this caller."""
    return absent("Security group rule", id_)


_STANDARD = ("id", "project_id", "name", "description", "created_at", "updated_at")
GROUPS = Listing(
    _groups,
    Group,
    {
        **{name: _groups.c[name] for name in (*_STANDARD, "stateful")},
        "revision_number": _groups.c.revision,
    },
    lambda project_id: _groups.c.project_id == project_id,
    {"shared": lambda values: sa.false() if rows_store.truth("shared", values[0]) else sa.true()},
)


def _nullable(column: sa.ColumnElement[Any]) -> Any:
    return lambda values: column.in_(["" if value.lower() in ("none", "null") else value for value in values])


RULES = Listing(
    _rules,
    Rule,
    {
        **{name: _rules.c[name] for name in ("id", "project_id", "description", "direction", "ethertype")},
        "security_group_id": _rules.c.group_id,
        "port_range_min": _rules.c.port_min,
        "port_range_max": _rules.c.port_max,
        "revision_number": _rules.c.revision,
    },
    lambda project_id: sa.or_(
        _rules.c.project_id == project_id,
        _rules.c.group_id.in_(sa.select(_groups.c.id).where(_groups.c.project_id == project_id)),
    ),
    {
        "protocol": _nullable(_rules.c.protocol),
        "remote_ip_prefix": _nullable(_rules.c.remote_cidr),
        "remote_group_id": _nullable(_rules.c.remote_group),
    },
)


def list_groups(connection: Connection, wanted: Wanted, with_rules: bool = True) -> list[Group]:
    """Groups, with their rules when they are wanted, in a query each and one for tags."""
    found = rows_store.listed(connection, GROUPS, wanted)
    return _with_rules(connection, found) if with_rules else found


def find_group(connection: Connection, id_: str) -> Group | None:
    """One group with its rules and tags."""
    row = rows_store.find(connection, _groups, Group, id_)
    return None if row is None else rows_store.tagged(connection, _with_rules(connection, [row]))[0]


def _with_rules(connection: Connection, groups: list[Group]) -> list[Group]:
    if groups:
        by_id = {group.id: group for group in groups}
        order = (_rules.c.created_at, _rules.c.id)
        for rule in rows_store.read_rows(connection, _rules, Rule, {"group_id": list(by_id)}, order=order):
            by_id[rule.group_id].rules = [*by_id[rule.group_id].rules, rule]
    return groups


def list_rules(connection: Connection, wanted: Wanted) -> list[Rule]:
    """Rules."""
    return rows_store.listed(connection, RULES, wanted)


def find_rule(connection: Connection, id_: str) -> tuple[Rule, str] | None:
    """One rule, and the project of its group."""
    row = rows_store.find(connection, _rules, Rule, id_)
    if row is None:
        return None
    owner = connection.scalar(sa.select(_groups.c.project_id).where(_groups.c.id == row.group_id))
    return row, str(owner)


def default_group(work: Work, project_id: str) -> str:
    """The id of the project's default group, made when it is not there yet."""
    defaults = schema.default_groups
    if (id_ := _default_id(work.connection, project_id)) is not None:
        return id_
    quota.lock(work.connection, project_id, "security_group")  # two first ports of a project make one group
    if (id_ := _default_id(work.connection, project_id)) is not None:
        return id_
    group = _new_group(work, project_id, name="default", description="Default security group", is_default=True)
    work.connection.execute(defaults.insert().values(project_id=project_id, group_id=group.id))
    return group.id


_DEFAULT = (schema.default_groups.c.group_id,)


def _default_id(connection: Connection, project_id: str) -> str | None:
    found = read(connection, _DEFAULT, {"project_id": project_id})
    return str(found[0][0]) if found else None


def _new_group(work: Work, project_id: str, **values: Any) -> Group:
    now = work.draw.now()
    group = Group(id=work.draw.id(), project_id=project_id, created_at=now, updated_at=now, **values)
    rows_store.insert(work, _groups, group)
    group.rules = _first_rules(work, group)
    return group


def _first_rules(work: Work, group: Group) -> list[Rule]:
    """Everything may leave; into a default group its own members may come."""
    made = []
    for ethertype in ("IPv4", "IPv6"):
        made.append(_rule(work, group, "egress", ethertype))
        if group.is_default:
            made.append(_rule(work, group, "ingress", ethertype, group.id))
    for rule in made:
        _insert_rule(work, rule)
    return made


def _rule(work: Work, group: Group, direction: str, ethertype: str, remote: str = "") -> Rule:
    return Rule(
        id=work.draw.id(),
        project_id=group.project_id,
        created_at=group.created_at,
        updated_at=group.created_at,
        group_id=group.id,
        direction=direction,
        ethertype=ethertype,
        remote_group=remote,
    )


def ensure_default(work: Work, project_id: str) -> None:
    """The project's default group is there afterwards."""
    if project_id:
        default_group(work, project_id)


def create_groups(work: Work, wanted: list[Group]) -> list[Group]:
    """Insert them all or none, with the rules that let everything out."""
    for project_id in sorted({group.project_id for group in wanted}):
        default_group(work, project_id)
        quota.take(work, project_id, "security_group", sum(1 for group in wanted if group.project_id == project_id))
    for group in wanted:
        rows_store.insert(work, _groups, group)
        group.rules = _first_rules(work, group)
    return wanted


def update_group(work: Work, id_: str, values: dict[str, Any]) -> Group:
    """Write the values; hosts hear when it becomes stateless or stateful."""
    row = rows_store.need(work.connection, _groups, Group, id_, no_group, lock=True)
    if row.is_default and values.get("name", "default") != "default":
        raise conflict("Updating default security group not allowed.", code="SecurityGroupCannotUpdateDefault")
    if values.get("stateful", row.stateful) != row.stateful:
        if work.connection.scalar(sa.select(_members.c.port_id).where(_members.c.group_id == id_).limit(1)):
            raise conflict(f"Security Group {id_} in use.", code="SecurityGroupInUse")
        told_store.tell_group(work, id_)
    if values.get("name", row.name) != row.name:
        _tell_servers(work, id_)
    if values:
        rows_store.change(work, _groups, row, values)
    return rows_store.tagged(work.connection, _with_rules(work.connection, [row]))[0]


def _tell_servers(work: Work, group_id: str) -> None:
    """Servers show the names of their ports' groups."""
    ports = schema.ports.c
    found = sa.select(ports.id, ports.device_id).join(_members, _members.c.port_id == ports.id)
    ours = (_members.c.group_id == group_id, ports.device_owner.like("compute:%"), ports.device_id != "")
    for port_id, server_id in work.connection.execute(found.where(*ours)).all():
        outbox.put(work, outbox.CHANGED, server_id, port_id)


def delete_group(work: Work, id_: str, *, as_admin: bool) -> None:
    """Delete the group and its rules, and rules of others that name it; ports keep it alive (409)."""
    row = rows_store.need(work.connection, _groups, Group, id_, no_group, lock=True)
    if row.is_default and not as_admin:
        raise conflict(
            "Insufficient rights for removing default security group.", code="SecurityGroupCannotRemoveDefault"
        )
    if work.connection.scalar(sa.select(_members.c.port_id).where(_members.c.group_id == id_).limit(1)) is not None:
        raise conflict(f"Security Group {id_} in use.", code="SecurityGroupInUse")
    naming = sa.select(_rules.c.group_id).where(_rules.c.remote_group == id_, _rules.c.group_id != id_)
    for group_id in set(work.connection.scalars(naming)):
        told_store.tell_group(work, group_id)
    work.connection.execute(_rules.delete().where(sa.or_(_rules.c.group_id == id_, _rules.c.remote_group == id_)))
    work.connection.execute(schema.default_groups.delete().where(schema.default_groups.c.group_id == id_))
    rows_store.remove(work, _groups, id_)


def _sameness(rule: Rule) -> str:
    """What makes two rules of one group the same; all addresses is the same as no address."""
    anywhere = rule.remote_cidr in ("0.0.0.0/0", "::/0")
    parts = (rule.direction, rule.ethertype, rule.protocol, rule.port_min, rule.port_max,
             "" if anywhere else rule.remote_cidr, rule.remote_group)  # fmt: skip
    return "|".join("" if part is None else str(part) for part in parts)


def _insert_rule(work: Work, rule: Rule) -> None:
    rule.sameness = _sameness(rule)
    same = sa.select(_rules.c.id).where(_rules.c.group_id == rule.group_id, _rules.c.sameness == rule.sameness)
    if (other := work.connection.scalar(same)) is not None:
        raise conflict(f"Security group rule already exists. Rule id is {other}.", code="SecurityGroupRuleExists")
    rows_store.insert(work, _rules, rule)


def create_rules(work: Work, wanted: list[Rule]) -> list[Rule]:
    """Insert them all or none; hosts that filter by the groups hear of it."""
    for project_id in sorted({rule.project_id for rule in wanted}):
        count = sum(1 for rule in wanted if rule.project_id == project_id)
        quota.take(work, project_id, "security_group_rule", count)
    for group_id in sorted({rule.group_id for rule in wanted}):
        group = rows_store.need(work.connection, _groups, Group, group_id, no_group, lock=True)
        rows_store.change(work, _groups, group, {})
    for rule in wanted:
        if rule.remote_group:
            rows_store.need(work.connection, _groups, Group, rule.remote_group, no_group)
        _insert_rule(work, rule)
    for group_id in {rule.group_id for rule in wanted}:
        told_store.tell_group(work, group_id)
    return wanted


def delete_rule(work: Work, id_: str) -> None:
    """Delete a rule; what it let through is cut by the hosts."""
    rule = rows_store.need(work.connection, _rules, Rule, id_, no_rule)
    told_store.tell_group(work, rule.group_id)
    rows_store.remove(work, _rules, id_)
    group = rows_store.find(work.connection, _groups, Group, rule.group_id, lock=True)
    if group is not None:
        rows_store.change(work, _groups, group, {})


def check_usable(connection: Connection, ids: Iterable[str], project_id: str | None) -> None:
    """Each group exists and is of the project (None: of any); else not found."""
    wanted = set(ids)
    if not wanted:
        return
    where: dict[str, Any] = {"id": list(wanted)} | ({} if project_id is None else {"project_id": project_id})
    if missing := sorted(wanted - {id_ for (id_,) in read(connection, (_groups.c.id,), where)}):
        raise no_group(missing[0])


_MEMBER = (_members.c.port_id, _members.c.group_id)


def groups_of(connection: Connection, port_ids: Sequence[str]) -> dict[str, list[str]]:
    """Port id → ids of its groups."""
    groups: dict[str, list[str]] = {}
    for port_id, group_id in read(connection, _MEMBER, {"port_id": list(port_ids)}, order=_MEMBER[1:]):
        groups.setdefault(port_id, []).append(group_id)
    return groups


def put_in(work: Work, port_id: str, host: str, ids: Sequence[str]) -> None:
    """The port, on that host, is in exactly these groups."""
    delete(work.connection, _members, port_id=port_id)
    join(work, port_id, host, ids)


def join(work: Work, port_id: str, host: str, ids: Sequence[str]) -> None:
    """The port, on that host and in no group yet, is in these."""
    rows = [{"port_id": port_id, "group_id": id_, "host": host} for id_ in dict.fromkeys(ids)]
    insert_all(work.connection, _members, rows)


def moved(work: Work, port_id: str, host: str) -> None:
    """The port's memberships are on that host now."""
    update(work.connection, _members, {"port_id": port_id}, {"host": host})


def has_default(connection: Connection, project_id: str) -> bool:
    """Whether the project has its default group."""
    return _default_id(connection, project_id) is not None


def default_is_there() -> Fault:
    """Nobody may make a second default group."""
    return conflict("Default security group already exists.", code="SecurityGroupDefaultAlreadyExists")
