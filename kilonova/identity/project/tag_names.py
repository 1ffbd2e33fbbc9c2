"""Which words may be tags."""

from __future__ import annotations

from kilonova.base.faults import invalid

TAGS_MAXIMUM = 80


def checked_tags(tags: list[str]) -> list[str]:
    """`tags` when a project may have them: at most 80 of 1 to 255 characters, none with a comma or a slash."""
    if len(tags) > TAGS_MAXIMUM:
        raise invalid(f"Invalid input for field project.tags: more than {TAGS_MAXIMUM} tags.")
    for tag in tags:
        if not 1 <= len(tag) <= 255 or "," in tag or "/" in tag:
            raise invalid(f"Invalid input for field project.tags: {tag[:60]!r} cannot be a tag.")
    if len(set(tags)) != len(tags):
        raise invalid("Invalid input for field project.tags: a tag stands there twice.")
    return tags
