"""What a run said, test by test, from the lines that `tempest run` prints."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

_LINE = re.compile(r"^\{\d+\} (?P<name>.+?)(?: \[[\d.]+s\])? \.\.\. (?P<what>ok|FAILED|SKIPPED:? ?(?P<why>.*))$")
_WHOLE_CLASS = re.compile(r"^(?:setUpClass|tearDownClass) \((?P<name>.+)\)$")


@dataclass
class Outcome:
    """Ids that passed, were skipped (with the reason) and failed. A class that could not start is one failure."""

    passed: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    @property
    def run(self) -> int:
        """How many tests were looked at."""
        return len(self.passed) + len(self.skipped) + len(self.failed)

    def reasons(self) -> list[tuple[str, int]]:
        """Why tests were skipped, the most frequent first."""
        return Counter(self.skipped.values()).most_common()


def read(lines: Iterable[str]) -> Outcome:
    """The outcome of a run from its output."""
    outcome = Outcome()
    for line in lines:
        found = _LINE.match(line.rstrip())
        if found is None:
            continue
        whole = _WHOLE_CLASS.match(found["name"])
        name = whole["name"] if whole else found["name"]
        if found["what"] == "ok":
            outcome.passed.append(name)
        elif found["what"] == "FAILED":
            outcome.failed.append(name)
        else:
            outcome.skipped[name] = found["why"] or "no reason given"
    return outcome
