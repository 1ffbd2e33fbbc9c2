"""Settings: what an operator mistypes is told by key, with what was probably meant."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from kilonova.base.faults import Fault, Kind
from kilonova.base.settings import fill, overlay, read_file


@dataclass(frozen=True)
class Pool:
    size: int = 4
    wait_seconds: float = 1.0
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cloud:
    region: str = "one"
    mode: Literal["quick", "safe"] = "safe"
    debug: bool = False
    limit: int | None = None
    pool: Pool = field(default_factory=Pool)
    quotas: dict[str, int] = field(default_factory=dict)


def test_tables_become_typed_settings() -> None:
    table = {"mode": "quick", "pool": {"size": 9, "wait_seconds": 2, "hosts": ["a", "b"]}, "quotas": {"cores": 8}}
    made = fill(Cloud, table)
    assert made == Cloud(mode="quick", pool=Pool(9, 2.0, ("a", "b")), quotas={"cores": 8})
    assert isinstance(made.pool.wait_seconds, float)


@pytest.mark.parametrize(
    ("table", "key", "hint"),
    [
        ({"regoin": "x"}, "regoin", "region"),
        ({"pool": {"sice": 1}}, "pool.sice", "size"),
        ({"zzz": 1}, "zzz", "Known here"),
        ({"pool": {"size": "many"}}, "pool.size", ""),
        ({"pool": {"size": True}}, "pool.size", ""),
        ({"pool": {"hosts": ["a", 2]}}, "pool.hosts[1]", ""),
        ({"mode": "slow"}, "mode", ""),
        ({"debug": 1}, "debug", ""),
        ({"quotas": {"cores": "x"}}, "quotas.cores", ""),
        ({"pool": 3}, "pool", ""),
    ],
)
def test_mistakes_name_the_key(table: dict[str, Any], key: str, hint: str) -> None:
    with pytest.raises(Fault) as caught:
        fill(Cloud, table)
    assert caught.value.kind is Kind.INVALID
    assert f" {key} " in caught.value.message + " " or caught.value.message.endswith(f"{key}.")
    assert hint in caught.value.hint


def test_nothing_given_is_a_value_where_it_may_be() -> None:
    assert fill(Cloud, {"limit": 3}).limit == 3
    assert fill(Cloud, {}).limit is None


def test_the_environment_lies_over_the_file() -> None:
    environment = {
        "KN_REGION": "two",
        "KN_DEBUG": "true",
        "KN_POOL_SIZE": "7",
        "KN_POOL_HOSTS": '["a", "b"]',
        "KN_UNKNOWN": "x",
        "OTHER_REGION": "three",
    }
    table = {"region": "file", "pool": {"size": 1, "wait_seconds": 3.0}}
    made = fill(Cloud, overlay(Cloud, table, environment, "KN"))
    assert made == Cloud(region="two", debug=True, pool=Pool(7, 3.0, ("a", "b")))
    assert table["pool"] == {"size": 1, "wait_seconds": 3.0}  # the file's own tables are left as they were


def test_a_wrong_value_in_the_environment_is_told_like_one_in_the_file() -> None:
    with pytest.raises(Fault, match=r"pool\.size"):
        fill(Cloud, overlay(Cloud, {}, {"KN_POOL_SIZE": "many"}, "KN"))


def test_files_that_are_missing_or_broken_are_named(tmp_path: Path) -> None:
    broken = tmp_path / "cloud.toml"
    broken.write_text('region = "one"\nmode = \n')
    with pytest.raises(Fault, match=r"cloud\.toml.*line 2"):
        read_file(broken)
    with pytest.raises(Fault, match=r"gone\.toml does not exist"):
        read_file(tmp_path / "gone.toml")
