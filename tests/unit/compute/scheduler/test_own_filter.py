"""The guide's example of an operator's own filter works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kilonova.base.faults import Fault
from kilonova.compute.scheduler.rules import Rules, SchedulerSettings
from kilonova.compute.scheduler.state import AggregateState
from tests.unit.compute.scheduler.hosts import host, request

GUIDE = Path(__file__).parents[4] / "docs/guide/scheduler.md"


def install(folder: Path, points: str) -> None:
    """A package as pip leaves it."""
    made = folder / "night_shift-1.dist-info"
    made.mkdir()
    (made / "METADATA").write_text("Metadata-Version: 2.1\nName: night-shift\nVersion: 1\n")
    (made / "entry_points.txt").write_text(points)


def test_the_guides_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = re.search(r"    # night_shift.py\n((?:    .*\n|\n)+?)\n    # pyproject", GUIDE.read_text())
    assert source
    (tmp_path / "night_shift.py").write_text(re.sub(r"^    ", "", source[1], flags=re.M))
    install(tmp_path, "[kilonova.scheduler.filters]\nNightShiftFilter = night_shift:refuses\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    (own,) = Rules.of(SchedulerSettings(filters=("NightShiftFilter",))).filters
    night = host(aggregates=(AggregateState(1, "a", {"shift": "night"}),))
    assert own.refuses(night, request(extra_specs={"shift": "night"})) == ""
    assert own.refuses(night, request(extra_specs={"shift": "day"})) == "the flavor is for shift day"


def test_one_that_cannot_be_loaded_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "[kilonova.scheduler.weighers]\nLuckWeigher = no_such_module_here:weigh\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(Fault, match=r"LuckWeigher .* cannot be loaded"):
        Rules.of(SchedulerSettings(weights={"LuckWeigher": 1.0}))
