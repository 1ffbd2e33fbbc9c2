"""How servers looked when they were last shown, for as long as they were not written since."""

from __future__ import annotations

from typing import Any, Final

import msgspec

REMEMBERED: Final = 4000  # looks


class Remembered:
    """Looks by server and by who looks; the oldest goes when there are too many. For one thread."""

    def __init__(self) -> None:
        self._looks: dict[tuple[str, Any], tuple[Any, msgspec.Raw]] = {}

    def look(self, server_id: str, by: Any, made_of: Any) -> msgspec.Raw | None:
        """How the server looked to `by`, when that was made of the same."""
        found = self._looks.get((server_id, by))
        return found[1] if found is not None and found[0] == made_of else None

    def remember(self, server_id: str, by: Any, made_of: Any, look: msgspec.Raw) -> None:
        """Instead of what was known of that server for `by`."""
        self._looks.pop((server_id, by), None)
        self._looks[server_id, by] = (made_of, look)
        if len(self._looks) > REMEMBERED:
            del self._looks[next(iter(self._looks))]
