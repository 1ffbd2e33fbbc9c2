"""Views: a noun at each microversion."""

from __future__ import annotations

from kilonova.http.fields import Field, View

VIEW: View[dict[str, int]] = View(
    Field("id", lambda noun: noun["id"]),
    Field("old", lambda noun: noun["id"] + 1, until="2.35"),
    Field("new", lambda noun: noun["id"] + 2, since="2.36"),
    Field("between", lambda noun: 0, since="2.10", until="2.20"),
)


def test_a_field_shows_from_its_first_version_to_its_last() -> None:
    assert VIEW.show((2, 1), {"id": 1}) == {"id": 1, "old": 2}
    assert VIEW.show((2, 10), {"id": 1}) == {"id": 1, "old": 2, "between": 0}
    assert VIEW.show((2, 20), {"id": 1}) == {"id": 1, "old": 2, "between": 0}
    assert VIEW.show((2, 35), {"id": 1}) == {"id": 1, "old": 2}
    assert VIEW.show((2, 36), {"id": 1}) == {"id": 1, "new": 3}


def test_two_nouns_at_one_version_are_two_answers() -> None:
    assert VIEW.show((2, 36), {"id": 1}) != VIEW.show((2, 36), {"id": 5})
