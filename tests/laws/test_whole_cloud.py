"""The whole cloud on one seeded loop: mixed work while processes die and messages are lost; then the books balance.

A failing seed prints what was done and what does not balance. `replay(seed)` runs it again, to the letter.
"""

from __future__ import annotations

import pytest

from kilonova.block_storage import scheduler as volume_scheduler
from kilonova.compute import conductor
from kilonova.sim import whole_books
from kilonova.sim.loop import run
from tests.laws import test_attachments, test_servers, test_snapshots, test_volume_snapshots, test_volumes
from tests.laws.whole import Whole, guest_work, mixed_work, resizing_work


def replay(seed: int, rounds: int = 8) -> Whole:
    """The run of a seed, once it has settled."""
    whole = Whole(seed, faulty=True)
    try:
        run(mixed_work(whole, rounds), seed)
    except AssertionError as error:
        call = f"replay({seed}, {rounds})"
        raise AssertionError(f"{error}\nreplay: python -c 'from {__name__} import replay; {call}'") from error
    return whole


@pytest.mark.parametrize("block", range(40))
def test_200_seeds_of_mixed_work_with_crashes_and_a_bad_network_balance(block: int) -> None:
    for seed in range(block * 5, block * 5 + 5):
        replay(seed)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(1000, 1100))
def test_long_seeds_balance(seed: int) -> None:
    replay(seed, 40)


def test_one_seed_replays_one_history() -> None:
    assert replay(3).history == replay(3).history


def test_resizes_and_rebuilds_amid_crashes_and_a_bad_network_balance() -> None:
    """Claims of servers and of their migrations, old disks and new, guests and flavors agree in the end."""
    done = []
    for seed in range(24):  # few resizes live long enough to be confirmed
        whole = Whole(seed, faulty=True)
        try:
            run(resizing_work(whole, 10), seed)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        done += [line for line in whole.history if ": 20" in line]
    for deed in ("'resize'", "'confirmResize'", "'revertResize'", "'rebuild'"):
        assert any(deed in line for line in done), deed


def test_rescues_images_and_backups_amid_crashes_and_a_bad_network_balance() -> None:
    """A guest boots from its rescue disk as long as its record says so, and no such disk is left after that."""
    done = []
    for seed in range(12):
        whole = Whole(seed, faulty=True)
        try:
            run(guest_work(whole, 12), seed)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        done += [line for line in whole.history if ": 20" in line]
    for deed in ("{'rescue'", "{'unrescue'", "{'createImage'", "{'createBackup'"):
        assert any(deed in line for line in done), deed


def test_the_mixed_work_does_what_it_says() -> None:
    """A workload that is refused everything would balance too."""
    done = "\n".join(line for seed in range(5) for line in replay(seed).history)
    for deed in ("POST compute/v2.1/servers", "DELETE compute", "POST volume/v3/volumes", "POST network", "crashes"):
        assert deed in done, deed
    servers = [server for seed in range(5) for server in whole_books.Seen(replay(seed).cloud).servers]
    assert sum(server.launched_at is not None for server in servers) >= 3


def test_the_checker_sees_what_is_wrong() -> None:
    whole = replay(3)
    host = whole.cloud.hosts["node1"]
    host.pool.sizes["stray"] = 1
    whole.cloud.hosts["node2"].machine.guests.clear()
    found = "; ".join(whole_books.check(whole.cloud))
    assert "file of volume stray without a record" in found
    assert "its guest None" in found


def test_every_kind_of_operation_has_its_laws() -> None:
    """An operation that is registered in a service is tested by the four laws, or this fails."""
    servers = {kind.name for kind in conductor.KINDS}
    volumes = {kind.name for kind in volume_scheduler.KINDS}
    tested = {*test_servers.VERBS, *test_attachments.VERBS, *test_snapshots.VERBS}
    assert servers <= tested, "add a scenario to tests/laws"
    plans = (*test_volumes.ALL, *test_volume_snapshots.ALL)
    assert volumes <= {plan.kind for plan in plans}, "add a scenario to tests/laws/test_volumes.py"
