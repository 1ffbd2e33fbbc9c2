"""Which worker runs what: tests that own the machine (root, guests, clusters) share one worker, the rest any.

The machine has one root namespace, one set of ports and 2 cores: two such tests at once would meet there. pytest 9.2
drops xdist's groups without a word (pytest-dev/pytest-xdist#1386), so pyproject.toml holds it back.
"""

from __future__ import annotations

import pytest

MACHINE_MARKS = ("root", "guest", "cluster")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Style first, for the quick answer; the machine's tests last, and in one xdist group."""
    for item in items:
        if any(item.get_closest_marker(name) for name in MACHINE_MARKS) and config.pluginmanager.hasplugin("xdist"):
            item.add_marker(pytest.mark.xdist_group("machine"))
    items.sort(key=_rank)  # stable: the files' own order stays
    if nameless := [item.nodeid for item in items if " at 0x" in item.nodeid]:
        raise pytest.UsageError(f"a test's name has an address, which differs between workers: {nameless[0]}")


def _rank(item: pytest.Item) -> int:
    if "/tidy/" in item.nodeid:
        return 0
    return 2 if any(item.get_closest_marker(name) for name in MACHINE_MARKS) else 1
