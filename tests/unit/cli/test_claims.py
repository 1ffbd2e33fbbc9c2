"""Clouds of one machine have nothing in common, also when chance would have it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from kilonova.base.faults import Fault, Kind
from kilonova.cli.claims import VNI_BLOCK, Claim, claim, destinations_in, release
from kilonova.node.vswitch.names import link_addresses, prefix_of
from tests.collisions import directories_that_collide


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "run" / "claims.json"


def test_directories_whose_hash_is_the_same_get_names_of_their_own(tmp_path: Path, file: Path) -> None:
    one, other = directories_that_collide(tmp_path)
    first, second = (claim(directory, None, file) for directory in (one, other))
    assert first.prefix == prefix_of(str(one)) == prefix_of(str(other)) != second.prefix
    assert link_addresses(first.prefix) != link_addresses(second.prefix)
    assert abs(first.vni_first - second.vni_first) >= VNI_BLOCK
    assert first.public_cidr != second.public_cidr
    assert claim(other, second, file) == second


def test_clouds_that_begin_at_once_share_nothing(tmp_path: Path, file: Path) -> None:
    made: list[Claim] = []
    directories = [tmp_path / f"cloud{number}" for number in range(40)]
    for directory in directories:
        directory.mkdir()
    threads = [threading.Thread(target=lambda one=one: made.append(claim(one, None, file))) for one in directories]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for field in ("prefix", "vni_first", "public_cidr"):
        assert len({getattr(one, field) for one in made}) == 40


def test_what_was_purged_is_free_again_and_the_last_leaves_nothing(tmp_path: Path, file: Path) -> None:
    one, other = directories_that_collide(tmp_path)
    first = claim(one, None, file)
    one.rmdir()
    release(one, file)
    assert not file.parent.exists()
    assert claim(other, None, file) == Claim(first.prefix, claim(other, None, file).vni_first, first.public_cidr)


def test_a_cloud_whose_names_were_taken_meanwhile_is_told_by_whom(tmp_path: Path, file: Path) -> None:
    one, other = directories_that_collide(tmp_path)
    first = claim(one, None, file)
    file.unlink()  # the machine was started again, and `one` is down
    claim(other, None, file)
    with pytest.raises(Fault) as refused:
        claim(one, first, file)
    assert refused.value.kind is Kind.CONFLICT
    assert str(other) in refused.value.message


TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 168.0.0.0/5 2 0 2
        +-- 169.254.64.0/18 2 0 2
           |-- 169.254.80.2
              /32 host LOCAL
              /31 link UNICAST
           |-- 169.254.100.4
              /31 link UNICAST
        |-- 172.24.9.1
           /32 host LOCAL
     |-- 127.0.0.0
        /8 host LOCAL
"""


def test_two_clouds_wires_do_not_take_all_wires_there_are() -> None:
    """The kernel keeps two networks under a node that spans them and all between: that one is nobody's."""
    assert destinations_in(TRIE) == ["169.254.80.2/32", "169.254.80.2/31", "169.254.100.4/31", "172.24.9.1/32"]


def test_the_file_of_an_older_kilonova_is_heeded_and_goes_with_its_last_cloud(tmp_path: Path, file: Path) -> None:
    one, older = tmp_path / "one", tmp_path / "older"
    one.mkdir()
    older.mkdir()
    file.parent.mkdir()
    old = file.with_name("public-ranges.json")
    free = claim(one, None, file).public_cidr
    release(one, file)
    file.parent.mkdir(exist_ok=True)
    old.write_text(f'{{"{free}": "{older}", "172.24.9.0/24": "{tmp_path}/gone"}}')
    old.with_suffix(".lock").touch()
    assert claim(one, None, file).public_cidr != free
    assert old.exists()
    claim(older, None, file)  # it came up with this release
    assert not old.exists()
    release(one, file)
    release(older, file)
    assert not file.parent.exists()
