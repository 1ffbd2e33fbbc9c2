"""The harness itself: shards, what failed again, and reading what a run printed."""

from __future__ import annotations

import re

import pytest

from tests.conformance.areas import AREAS, again, shard
from tests.conformance.configure import TEMPLATE, fill
from tests.conformance.known import LEFT_OUT, SKIPS, is_left_out, unexpected
from tests.conformance.page import rewritten
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


def test_only_skips_that_are_explained_are_right() -> None:
    explained = {"a.B.test_x": "Skipped until bug: https://launchpad.net/bugs/2030527 is resolved."}
    assert unexpected("image", explained) == {}
    assert unexpected("image", {**explained, "a.C": "not today"}) == {"a.C": "not today"}
    assert unexpected("network", {"a.C": "not today"}) == {}  # whose skips nobody has explained yet
    assert all(why.endswith(".") for known in (LEFT_OUT, SKIPS) for area in known.values() for why in area.values())


def test_the_page_tells_what_the_runs_say_together() -> None:
    lax = "t.ImagesFormatTest.test_compute_rejects_invalid[id-1](qcow2-backing-file)"
    assert is_left_out("image", lax)
    asked = [f"a.B.test_{name}[id-1]" for name in ("good", "bad", "mended")] + ["a.C.test_lax", "a.D.test_never", lax]
    first = {"area": "image", "commit": "c1", "at": "2026-11-28T10:00", "shard": "1/1", "seconds": 9, "choices": {}}
    second = {**first, "commit": "c2", "at": "2026-11-28T11:00", "choices": {"FORMATS": "loose"}}
    first |= {"asked": asked, "passed": ["a.B.test_good"], "failed": ["a.B.test_bad", "a.B.test_mended"]}
    first |= {"skipped": {"a.C": "do_secure_hash is enabled"}}
    second |= {"asked": asked[2:4], "passed": ["a.B.test_mended", "a.C.test_lax"], "failed": [], "skipped": {}}
    page = rewritten("x\n<!-- image: begin -->\nold\n<!-- image: end -->\ny", "image", [first, second])
    assert "of 6 tests (variants counted) 3 pass, 1 fail, 0 are skipped, 1 not run, 1 unseen" in page
    assert "- fails: `a.B.test_bad`" in page and "- not seen: `a.D.test_never`" in page and "old" not in page
    assert "| image | `FORMATS=loose`, 2026-11-28 | c2 | 2 | 2 | 0 | 0 | 9 |" in page
    assert page.startswith("x\n") and page.endswith("\ny")
