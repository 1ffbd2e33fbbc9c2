"""What is run for an area, and how a list of tests is cut into shards."""

from __future__ import annotations

import re
from collections.abc import Sequence

AREAS = {
    "identity": r"^(tempest\.api\.identity|keystone_tempest_plugin\.tests\.(api|rbac))\.",
    "image": r"^(tempest\.api\.image|glance_tempest_plugin\.tests\.rbac)\.",
    "compute": r"^(tempest\.api\.compute|tempest\.serial_tests\.api)\.",
    "network": r"^(tempest\.api\.network|neutron_tempest_plugin\.api)\.",
    "volume": r"^(tempest\.api\.volume|cinder_tempest_plugin\.(api|rbac))\.",
    # few suites ask placement itself: minimum bandwidth, which needs guests
    "placement": r"^(tempest\.scenario\.test_minbw_alloc|neutron_tempest_plugin\.scenario\.admin\.test_placement)",
}


def class_of(test: str) -> str:
    """The dotted class of a test's id, without the method, its attributes in [] and its scenario in ()."""
    return re.split(r"[\[(]", test)[0].rpartition(".")[0]


def plain(test: str) -> str:
    """A test's id without its attributes, as results name it."""
    return re.sub(r"\[[^\]]*\]", "", test)


def shard(tests: Sequence[str], part: str) -> list[str]:
    """The tests of shard "i/n", 1 ≤ i ≤ n. A class stays whole: its fixtures are dear."""
    number, _, of = part.partition("/")
    if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise ValueError(f"SHARD={part}: give i/n, for example 2/3")
    classes = sorted({class_of(test) for test in tests})[int(number) - 1 :: int(of)]
    return [test for test in tests if class_of(test) in set(classes)]


def again(tests: Sequence[str], failed: Sequence[str]) -> list[str]:
    """Those of the tests that failed; where a whole class did (its setUpClass), all of the class."""
    wanted = {re.sub(r"\[.*", "", one) for one in failed}
    return [test for test in tests if re.sub(r"\[.*", "", test) in wanted or class_of(test) in wanted]
