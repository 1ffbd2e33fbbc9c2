"""THE table: what may be done to a server in which state, how it shows meanwhile, and where it ends.

The API enforces it, the documentation is printed from it, and a test walks every cell. Names are the public API's:
https://docs.openstack.org/nova/latest/reference/vm-states.html describes the field's states; today's API decides.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from kilonova.base.faults import Fault, conflict

BUILDING = "building"
ACTIVE = "active"
PAUSED = "paused"
SUSPENDED = "suspended"
STOPPED = "stopped"
RESCUED = "rescued"
RESIZED = "resized"
SHELVED = "shelved"
SHELVED_OFFLOADED = "shelved_offloaded"
SOFT_DELETED = "soft-delete"
DELETED = "deleted"
ERROR = "error"
KEEPS = ""  # an action that ends in the state it began in

STATES = (
    BUILDING,
    ACTIVE,
    STOPPED,
    PAUSED,
    SUSPENDED,
    RESCUED,
    RESIZED,
    SHELVED,
    SHELVED_OFFLOADED,
    SOFT_DELETED,
    ERROR,
)
ANY = frozenset(STATES)

# task_state while a server is built
SCHEDULING = "scheduling"
NETWORKING = "networking"
BLOCK_DEVICE_MAPPING = "block_device_mapping"
SPAWNING = "spawning"
DELETING = "deleting"

_REBOOTS = frozenset({"rebooting", "reboot_pending", "reboot_started", "rebooting_hard",
                      "resuming", "unpausing", "pausing", "suspending"})  # fmt: skip
_ALL_TASKS = frozenset({"*"})


class Action(msgspec.Struct, frozen=True):
    """One row of the table."""

    name: str
    states: frozenset[str]  # it may start from
    busy: str = ""  # task_state shown first; "": no task, it is done at once
    ends: str = KEEPS
    interrupts: frozenset[str] = frozenset()  # task_states during which it may start; {"*"}: any
    never_started: bool = False  # also for a server that never ran
    host_down: bool = False  # only while the server's host is down
    later: bool = False  # decided, but not offered yet: nobody is told that it is allowed


def _action(name: str, states: str, busy: str = "", ends: str = KEEPS, **more: bool | frozenset[str]) -> Action:
    known = {state.replace("-", "_"): state for state in STATES}
    return Action(name, frozenset(known[word] for word in states.split()), busy, ends, **more)  # type: ignore[arg-type]


def _always(name: str, busy: str = "", ends: str = KEEPS) -> Action:
    return Action(name, ANY, busy, ends, _ALL_TASKS, never_started=True)


_SNAPSHOT_STATES = "active stopped paused suspended"

_ROWS = (
    _always("delete", DELETING, DELETED),
    _always("forceDelete", DELETING, DELETED),
    _always("lock"),
    _always("unlock"),
    _always("os-resetState"),
    _always("update"),
    _action("changePassword", "active", "updating_password"),
    _action("pause", "active", "pausing", PAUSED),
    _action("unpause", "paused", "unpausing", ACTIVE),
    _action("suspend", "active", "suspending", SUSPENDED),
    _action("resume", "suspended", "resuming", ACTIVE),
    _action("start", "stopped", "powering-on", ACTIVE),
    _action("stop", "active error", "powering-off", STOPPED),
    _action("reboot", "active", "rebooting", ACTIVE),
    _action("reboot hard", "active stopped paused suspended error", "rebooting_hard", ACTIVE, interrupts=_REBOOTS),
    _action("rescue", "active stopped error", "rescuing", RESCUED),
    _action("unrescue", "rescued", "unrescuing", ACTIVE),
    _action("rebuild", "active stopped error", "rebuilding"),
    _action("resize", "active stopped", "resize_prep", RESIZED),
    _action("migrate", "active stopped", "resize_prep", RESIZED, later=True),
    _action("confirmResize", "resized", "resize_confirming", ACTIVE),
    _action("revertResize", "resized", "resize_reverting", ACTIVE),
    _action("live-migration", "active paused", "migrating", later=True),
    _action("evacuate", "active stopped error", "rebuilding", host_down=True, later=True),
    _action("shelve", _SNAPSHOT_STATES, "shelving", SHELVED, later=True),
    _action("shelveOffload", "shelved", "shelving_offloading", SHELVED_OFFLOADED, later=True),
    _action("unshelve", "shelved shelved_offloaded", "unshelving", ACTIVE, later=True),
    _action("restore", "soft_delete", "restoring", ACTIVE),
    _action("createImage", _SNAPSHOT_STATES, "image_snapshot"),
    _action("createBackup", _SNAPSHOT_STATES, "image_backup"),
    _action("attach_volume", "active stopped paused resized shelved shelved_offloaded soft_delete"),
    _action("detach_volume", "active stopped paused resized shelved shelved_offloaded soft_delete"),
    _action("swap_volume", "active paused resized", later=True),
    _action("attach_interface", "active stopped paused"),
    _action("detach_interface", "active stopped paused"),
    _action("trigger_crash_dump", "active paused rescued resized error"),
    _action("metadata", _SNAPSHOT_STATES, interrupts=_ALL_TASKS),
    _action("tags", _SNAPSHOT_STATES, interrupts=_ALL_TASKS),
    _action("console", "active", interrupts=_ALL_TASKS),
)
ACTIONS: Mapping[str, Action] = {row.name: row for row in _ROWS}


# Verbs that work beside whatever else goes on with a server, and verbs that must not start meanwhile: a disk or a
# NIC that is on its way in would be forgotten when the guest is built anew.
BESIDE = frozenset({"attach_volume", "detach_volume", "attach_interface", "detach_interface"})
REBUILDS_GUEST = frozenset(
    {"rebuild", "resize", "migrate", "live-migration", "evacuate", "shelve", "shelveOffload", "unshelve", "rescue"}
    | {"unrescue", "confirmResize", "revertResize"}
)


class Now(msgspec.Struct, frozen=True):
    """Of a server, what decides what may be done to it."""

    server_id: str
    vm_state: str
    task_state: str
    launched: bool
    locked: bool = False


def allowed(now: Now) -> list[str]:
    """Names of the actions that may start now (evacuate: when the host is down)."""
    return [row.name for row in ACTIONS.values() if _fits(row, now) and not row.later]


def check(action: str, now: Now, *, admin: bool = False) -> Action:
    """The table's row when `action` may start now; else a CONFLICT that names the state and what is allowed."""
    row = ACTIONS[action]
    if now.locked and not admin and action != "unlock":
        raise conflict(f"Instance {now.server_id} is locked", hint="Unlock it first.", code="InstanceIsLocked")
    if _fits(row, now):
        return row
    raise _refusal(row, now)


def nothing_beside(action: str, server_id: str, unfinished: list[tuple[str, str]]) -> None:
    """CONFLICT when a verb of `BESIDE` is among the server's unfinished operations ((id, kind))."""
    if beside := [kind for _, kind in unfinished if kind in BESIDE]:
        raise conflict(
            f"Cannot '{action}' instance {server_id} while {beside[0]} is under way.",
            hint="Wait until it has ended; `openstack server event list` shows it.",
            code="InstanceInvalidState",
        )


def _fits(row: Action, now: Now) -> bool:
    if now.vm_state not in row.states or not (now.launched or row.never_started):
        return False
    return not now.task_state or "*" in row.interrupts or now.task_state in row.interrupts


def _refusal(row: Action, now: Now) -> Fault:
    if now.vm_state not in row.states:
        state, what = "vm_state", now.vm_state
    elif not (now.launched or row.never_started):
        state, what = "launched_at", "None"
    else:
        state, what = "task_state", now.task_state
    may = allowed(now)
    return conflict(
        f"Cannot '{row.name}' instance {now.server_id} while it is in {state} {what}",
        hint=f"Allowed now: {', '.join(may)}.",
        code="InstanceInvalidState",
        data={"state": what, "allowed": may},
    )


_STATUS = {
    BUILDING: "BUILD",
    ACTIVE: "ACTIVE",
    STOPPED: "SHUTOFF",
    PAUSED: "PAUSED",
    SUSPENDED: "SUSPENDED",
    RESCUED: "RESCUE",
    RESIZED: "VERIFY_RESIZE",
    SHELVED: "SHELVED",
    SHELVED_OFFLOADED: "SHELVED_OFFLOADED",
    SOFT_DELETED: "SOFT_DELETED",
    DELETED: "DELETED",
    ERROR: "ERROR",
}
_REBUILDS = dict.fromkeys(("rebuilding", "rebuild_block_device_mapping", "rebuild_spawning"), "REBUILD")
_RESIZES = dict.fromkeys(("resize_prep", "resize_migrating", "resize_migrated", "resize_finish"), "RESIZE")
_BUSY_STATUS: Mapping[str, Mapping[str, str]] = {
    ACTIVE: {
        "rebooting": "REBOOT",
        "reboot_pending": "REBOOT",
        "reboot_started": "REBOOT",
        "rebooting_hard": "HARD_REBOOT",
        "reboot_pending_hard": "HARD_REBOOT",
        "reboot_started_hard": "HARD_REBOOT",
        "updating_password": "PASSWORD",
        "migrating": "MIGRATING",
        **_REBUILDS,
        **_RESIZES,
    },
    STOPPED: {**_RESIZES, **_REBUILDS},
    RESIZED: {"resize_reverting": "REVERT_RESIZE"},
    PAUSED: {"migrating": "MIGRATING"},
    ERROR: {**_REBUILDS},
}


def status_of(vm_state: str, task_state: str) -> str:
    """The one word that users see: `ACTIVE`, `SHUTOFF`, `VERIFY_RESIZE` …"""
    return _BUSY_STATUS.get(vm_state, {}).get(task_state) or _STATUS.get(vm_state, "UNKNOWN")


def states_of(status: str) -> list[tuple[str, list[str]]]:
    """[(vm_state, task_states that show as `status`)] for filtering; [""] stands for every other task_state."""
    wanted = status.upper()
    found = [(state, [""]) for state, shown in _STATUS.items() if shown == wanted]
    for state, tasks in _BUSY_STATUS.items():
        if mine := [task for task, shown in tasks.items() if shown == wanted]:
            found.append((state, mine))
    return found


def special_tasks(vm_state: str) -> list[str]:
    """task_states in which a server of this vm_state shows another status than usual."""
    return list(_BUSY_STATUS.get(vm_state, {}))
