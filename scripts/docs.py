"""Check that pages made from the code are fresh; with WRITE=1 write them.

A generated page is registered here with the function that makes its text from the code.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def decisions_index() -> str:
    """docs/decisions/README.md: every record with its title."""
    records = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
    lines = [f"* [{r.read_text().splitlines()[0].removeprefix('# ')}]({r.name})" for r in records]
    head = "One page each: what was decided, why, what it costs. A later record may replace an earlier one and says so."
    return "\n".join(["# Decisions", "", head, "", *lines, ""])


def server_states() -> str:
    """docs/states.md: what may be done to a server in which state."""
    from kilonova.compute.server.states_page import page

    return page()


PAGES: dict[str, Callable[[], str]] = {"docs/decisions/README.md": decisions_index, "docs/states.md": server_states}


def main() -> int:
    """0 when every page is what the code says; else name the stale ones."""
    stale = [page for page, make in PAGES.items() if not (ROOT / page).exists() or (ROOT / page).read_text() != make()]
    if os.environ.get("WRITE") == "1":
        for page in stale:
            (ROOT / page).write_text(PAGES[page]())
            print(f"wrote {page}")
        return 0
    for page in stale:
        print(f"{page} is not fresh: run `make docs WRITE=1` and commit it", file=sys.stderr)
    print(f"{len(PAGES) - len(stale)} of {len(PAGES)} generated pages are fresh")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
