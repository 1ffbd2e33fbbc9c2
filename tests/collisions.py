"""State directories that meet by chance."""

from __future__ import annotations

import itertools
from pathlib import Path

from kilonova.node.vswitch.names import prefix_of


def directories_that_collide(place: Path) -> tuple[Path, Path]:
    """Two new directories in `place` whose clouds would be given the same names if they did not look."""
    seen: dict[str, Path] = {}
    for number in itertools.count():
        directory = place / f"s{number}"
        other = seen.setdefault(prefix_of(str(directory)), directory)
        if other != directory:
            other.mkdir()
            directory.mkdir()
            return other, directory
    raise AssertionError
