"""How a reader of the feed keeps its place, with numbers that are seen out of order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kilonova.base.faults import Fault
from kilonova.placement.change.store import GAP_SECONDS, Position

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_missing_numbers_are_asked_for_until_they_come_or_are_too_old() -> None:
    at = Position(10).after([11, 14], NOW)
    assert at.seen == 14
    assert [number for number, _ in at.gaps] == [12, 13]
    assert Position.parse(at.written()) == at
    later = at.after([12, 15], NOW + timedelta(seconds=1))
    assert later.seen == 15
    assert [number for number, _ in later.gaps] == [13]
    assert later.after([], NOW + timedelta(seconds=GAP_SECONDS)).gaps == ()


def test_a_late_number_alone_does_not_move_the_place_back() -> None:
    at = Position(10).after([12], NOW)
    assert at.after([11], NOW) == Position(12)


@pytest.mark.parametrize("text", ["x", "1;2", "1;2@x", "1;@", "1.5", ";1@2"])
def test_what_was_never_told_is_refused(text: str) -> None:
    with pytest.raises(Fault):
        Position.parse(text)
