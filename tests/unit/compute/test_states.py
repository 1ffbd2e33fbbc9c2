"""Every cell of the state table: (state, action, started or not, task or not) against the published rules."""

from __future__ import annotations

import pytest

from kilonova.base.faults import Fault
from kilonova.compute.server.states import ACTIONS, STATES, Now, allowed, check, states_of, status_of

ALWAYS = {"delete", "forceDelete", "lock", "unlock", "os-resetState", "update"}
SNAPSHOTS = {"createImage", "createBackup"}
VOLUMES = {"attach_volume", "detach_volume"}
INTERFACES = {"attach_interface", "detach_interface"}
WORDS = {"metadata", "tags"}
# Written down again from the published table, on purpose: two hands that must agree.
PUBLISHED = {
    "building": set(),
    "active": {"changePassword", "pause", "suspend", "stop", "reboot", "reboot hard", "rescue", "rebuild", "resize",
               "migrate", "live-migration", "evacuate", "shelve", *SNAPSHOTS, *VOLUMES, "swap_volume", *INTERFACES,
               "trigger_crash_dump", *WORDS, "console"},
    "stopped": {"start", "reboot hard", "rescue", "rebuild", "resize", "migrate", "evacuate", "shelve", *SNAPSHOTS,
                *VOLUMES, *INTERFACES, *WORDS},
    "paused": {"unpause", "reboot hard", "live-migration", "shelve", *SNAPSHOTS, *VOLUMES, "swap_volume", *INTERFACES,
               "trigger_crash_dump", *WORDS},
    "suspended": {"resume", "reboot hard", "shelve", *SNAPSHOTS, *WORDS},
    "rescued": {"unrescue", "trigger_crash_dump"},
    "resized": {"confirmResize", "revertResize", *VOLUMES, "swap_volume", "trigger_crash_dump"},
    "shelved": {"unshelve", "shelveOffload", *VOLUMES},
    "shelved_offloaded": {"unshelve", *VOLUMES},
    "soft-delete": {"restore", *VOLUMES},
    "error": {"stop", "reboot hard", "rescue", "rebuild", "evacuate", "trigger_crash_dump"},
}  # fmt: skip
LATER = {"migrate", "live-migration", "evacuate", "shelve", "shelveOffload", "unshelve", "swap_volume"}
ENDS = {
    "stop": "stopped", "pause": "paused", "suspend": "suspended", "rescue": "rescued", "resize": "resized",
    "migrate": "resized", "start": "active", "unpause": "active", "resume": "active", "unrescue": "active",
    "unshelve": "active", "restore": "active", "reboot": "active", "reboot hard": "active", "confirmResize": "active",
    "revertResize": "active", "shelve": "shelved", "shelveOffload": "shelved_offloaded", "delete": "deleted",
    "forceDelete": "deleted",
}  # fmt: skip


def now(state: str, *, task: str = "", launched: bool = True, locked: bool = False) -> Now:
    return Now("id", state, task, launched, locked)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("action", list(ACTIONS))
def test_every_cell(state: str, action: str) -> None:
    may = action in ALWAYS or action in PUBLISHED[state]
    assert (action in allowed(now(state))) is (may and action not in LATER)
    if may:
        assert check(action, now(state)) is ACTIONS[action]
        return
    with pytest.raises(Fault) as refused:
        check(action, now(state))
    assert state in refused.value.message
    assert refused.value.data["allowed"] == allowed(now(state))


def test_the_table_has_every_state_and_action() -> None:
    assert set(PUBLISHED) == set(STATES)
    assert set(ACTIONS) == ALWAYS.union(*PUBLISHED.values())
    assert {name for name, row in ACTIONS.items() if row.later} == LATER
    assert {name: row.ends for name, row in ACTIONS.items() if row.ends} == ENDS


@pytest.mark.parametrize("state", STATES)
def test_a_server_that_never_started_takes_only_what_always_works(state: str) -> None:
    assert set(allowed(now(state, launched=False))) == ALWAYS


@pytest.mark.parametrize("task", ["powering-off", "rebooting", "image_snapshot"])
def test_while_a_task_runs_only_interrupting_actions_begin(task: str) -> None:
    may = set(allowed(now("active", task=task)))
    assert may - {"reboot hard"} == ALWAYS | WORDS | {"console"}
    assert ("reboot hard" in may) is (task == "rebooting")


def test_a_locked_server_is_for_admins() -> None:
    with pytest.raises(Fault, match="locked"):
        check("stop", now("active", locked=True))
    assert check("stop", now("active", locked=True), admin=True)
    assert check("unlock", now("active", locked=True))


@pytest.mark.parametrize(
    ("state", "task", "status"),
    [("active", "", "ACTIVE"), ("stopped", "", "SHUTOFF"), ("active", "rebooting_hard", "HARD_REBOOT"),
     ("resized", "resize_reverting", "REVERT_RESIZE"), ("stopped", "resize_prep", "RESIZE"),
     ("error", "rebuilding", "REBUILD"), ("active", "powering-off", "ACTIVE")],
)  # fmt: skip
def test_the_word_users_see(state: str, task: str, status: str) -> None:
    assert status_of(state, task) == status
    assert any(vm == state and (task in tasks or tasks == [""]) for vm, tasks in states_of(status))
