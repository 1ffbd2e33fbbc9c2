"""The harness itself: shards, what failed again, and reading what a run printed."""

from __future__ import annotations

import re

import pytest

from tests.conformance.areas import AREAS, again, shard
from tests.conformance.configure import TEMPLATE, fill
from tests.conformance.result import read

TESTS = ["a.B.test_x[id-1]", "a.B.test_y[id-2]", "a.C.test_z[id-3]", "d.E.test_x[id-4]"]
PRINTED = """
{0} tempest.api.image.v2.test_images.ImagesTest.test_list [0.25s] ... ok
{1} setUpClass (tempest.api.image.v2.test_tasks.TasksTest) ... SKIPPED: tasks are not offered
{1} setUpClass (tempest.api.image.v2.test_cache.CacheTest) [0.00s] ... FAILED
{0} tempest.api.image.v2.test_images.ImagesTest.test_two [1.25s] ... FAILED
Captured traceback: {0} nothing ... ok, here
"""


def test_shards_are_disjoint_whole_and_keep_classes_together() -> None:
    parts = [shard(TESTS, f"{number}/2") for number in (1, 2)]
    assert sorted(parts[0] + parts[1]) == sorted(TESTS) and set(parts[0]).isdisjoint(parts[1])
    assert {"a.B.test_x[id-1]", "a.B.test_y[id-2]"} <= set(parts[0])
    for wrong in ("0/2", "3/2", "2", "x/y"):
        with pytest.raises(ValueError, match="give i/n"):
            shard(TESTS, wrong)


def test_what_failed_is_run_again_and_a_class_that_could_not_start_as_a_whole() -> None:
    assert again(TESTS, ["a.B", "d.E.test_x", ""]) == [TESTS[0], TESTS[1], TESTS[3]]


def test_a_run_is_read_from_its_lines() -> None:
    outcome = read(PRINTED.splitlines())
    assert outcome.passed == ["tempest.api.image.v2.test_images.ImagesTest.test_list"]
    assert outcome.failed == [
        "tempest.api.image.v2.test_cache.CacheTest",
        "tempest.api.image.v2.test_images.ImagesTest.test_two",
    ]
    assert outcome.reasons() == [("tasks are not offered", 1)] and outcome.run == 4


def test_the_template_asks_only_for_what_is_given() -> None:
    names = set(re.findall(r"@([A-Z_]+)@", TEMPLATE.read_text()))
    filled = fill(TEMPLATE.read_text(), dict.fromkeys(names, "x"))
    assert "@" not in re.sub(r"#.*", "", filled)
    with pytest.raises(ValueError, match="no value for"):
        fill("@MISSING@", {})


def test_areas_do_not_overlap() -> None:
    for one in ("tempest.api.image.v2.test_images", "cinder_tempest_plugin.rbac.v3.test_x", "tempest.api.network.x.y"):
        assert sum(bool(re.match(regex, one)) for regex in AREAS.values()) == 1
