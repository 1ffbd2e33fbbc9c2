"""Writes an area's results into docs/conformance/README.md: `python -m tests.conformance.page AREA`.

They are the union of the runs of the last commits: a test that passed in its newest run passes, one that failed there
fails; what a run skipped may have been run by another.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conformance.areas import class_of, plain
from tests.conformance.known import LEFT_OUT, is_left_out, reason_of
from tests.fake_cloud import ROOT

PAGE = ROOT / "docs/conformance/README.md"
COMMITS = 20  # of one result


@dataclass
class Union:
    """What each test of an area did, over several runs; oldest first."""

    area: str
    passed: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    skipped: dict[str, str] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)

    def add(self, record: dict[str, Any]) -> None:
        """One more run."""
        asked = {plain(one) for one in record["asked"]}
        self.asked |= asked
        for name in record["passed"]:
            self.passed.add(name)
            self.failed.discard(name)
            self.skipped.pop(name, None)
        for name in self._each(record["failed"], asked):
            self.failed.add(name)
            self.passed.discard(name)
        for one, why in record["skipped"].items():
            for name in self._each([one], asked):
                if name not in self.passed | self.failed and not is_left_out(self.area, name):
                    self.skipped[name] = why

    def _each(self, names: list[str], asked: set[str]) -> set[str]:
        """Classes that were skipped or failed as a whole, test by test."""
        return {one for one in asked if one in names or class_of(one) in names} | (set(names) & asked)

    @property
    def unseen(self) -> set[str]:
        """Tests of which nothing is known."""
        left_out = {one for one in self.asked if is_left_out(self.area, one)}
        return self.asked - self.passed - self.failed - set(self.skipped) - left_out


def row(record: dict[str, Any]) -> str:
    """One run as a line of the table."""
    choices = " ".join(f"`{name}={value}`" for name, value in record["choices"].items())
    what = " ".join(filter(None, (choices, f"`SHARD={record['shard']}`" if record["shard"] != "1/1" else "")))
    counts = [len(record[name]) for name in ("passed", "skipped", "failed")]
    cells = [record["area"], f"{what or 'whole area'}, {record['at'][:10]}", record["commit"], sum(counts), *counts]
    return f"| {' | '.join(str(cell) for cell in [*cells, record['seconds']])} |"


def told(union: Union) -> list[str]:
    """What the runs say together."""
    area, left_out = union.area, [one for one in union.asked if is_left_out(union.area, one)]
    lines = [
        f"{area}: of {len(union.asked)} tests (variants counted) {len(union.passed)} pass, {len(union.failed)} fail, "
        f"{len(union.skipped)} are skipped, {len(left_out)} not run, {len(union.unseen)} unseen."
    ]
    lines += [f"- fails: `{name}`" for name in sorted(union.failed)]
    lines += [f"- not seen: `{name}`" for name in sorted(union.unseen)]
    counted = Counter(reason_of(area, why) or why for why in union.skipped.values())
    lines += [f"- skipped, {count}: {why}" for why, count in counted.most_common()]
    lines += [f"- not run, {sum(bool(re.search(p, one)) for one in left_out)}: {w}" for p, w in _left_out(area)]
    return lines


def _left_out(area: str) -> list[tuple[str, str]]:
    return list(LEFT_OUT.get(area, {}).items())


def records(area: str) -> list[dict[str, Any]]:
    """The newest run of each kind among the area's last commits, oldest first."""
    ask = ["git", "log", f"-{COMMITS}", "--format=%h"]
    recent = subprocess.run(ask, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    kinds: dict[str, dict[str, Any]] = {}
    for path in sorted((ROOT / "output/conformance" / area).glob("*.json")):
        record = json.loads(path.read_text())
        if record["commit"] in recent and "asked" in record:
            kinds[json.dumps([record["choices"], record["shard"], record["hypervisor"]])] = record
    return sorted(kinds.values(), key=lambda one: str(one["at"]))


def rewritten(text: str, area: str, found: list[dict[str, Any]]) -> str:
    """The page with the area's results between its marks."""
    union = Union(area)
    for record in found:
        union.add(record)
    head = ["| area | tests, day | commit | run | passed | skipped | failed | seconds |"]
    head += ["|---|---|---|---:|---:|---:|---:|---:|"]
    block = "\n".join([*head, *map(row, found), "", *told(union)])
    begin, end = f"<!-- {area}: begin -->\n", f"\n<!-- {area}: end -->"
    if begin not in text or end not in text:
        raise SystemExit(f"{PAGE} has no place for {area}: {begin.strip()} … {end.strip()}")
    return text[: text.index(begin) + len(begin)] + block + text[text.index(end) :]


def main(area: str, page: Path = PAGE) -> None:
    """Write the page."""
    found = records(area)
    if not found:
        raise SystemExit(f"No run of {area} is recorded for the last {COMMITS} commits: make conformance AREA={area}")
    page.write_text(rewritten(page.read_text(), area, found))


if __name__ == "__main__":
    main(sys.argv[1])
