"""Skips are counted and explained; in CI (CI=true) a reason not in tests/allowed_skips.txt fails the run."""

from __future__ import annotations

import fnmatch
import os
from collections import Counter
from pathlib import Path

import pytest

ALLOWED = Path(__file__).parent.parent / "allowed_skips.txt"


def allowed_patterns(text: str) -> list[str]:
    """The patterns in a file of allowed reasons: one per line, `*` stands for anything, `#` starts a comment."""
    lines = (line.split("#", 1)[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def not_allowed(seen: Counter[str], patterns: list[str]) -> list[str]:
    """The reasons no pattern matches, sorted."""
    return sorted(reason for reason in seen if not any(fnmatch.fnmatch(reason, pattern) for pattern in patterns))


class SkipBook:
    """Registered per run, so that a run inside a test (pytester) has a book of its own."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note the reason of a skip; reports of all workers arrive here."""
        if report.skipped and not hasattr(report, "wasxfail"):
            self._note(report.longrepr)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a module that skipped itself."""
        if report.skipped:
            self._note(report.longrepr)

    def _note(self, told: object) -> None:
        text = str(told[2]) if isinstance(told, tuple) else str(told)
        self.seen[text.removeprefix("Skipped: ").strip()] += 1

    def refused(self) -> list[str]:
        """Reasons that fail this run: none outside CI."""
        if os.environ.get("CI", "").lower() not in ("1", "true", "yes"):
            return []
        return not_allowed(self.seen, allowed_patterns(ALLOWED.read_text() if ALLOWED.exists() else ""))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """A refused reason makes a green run red."""
        if self.refused() and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Each reason once with its count, before pytest's own last line."""
        if not self.seen:
            return
        terminalreporter.section("skipped, and why")
        for reason, count in self.seen.most_common():
            terminalreporter.line(f"{count:5}  {reason}")
        for reason in self.refused():
            terminalreporter.line(f"NOT ALLOWED in CI (see tests/allowed_skips.txt): {reason}", red=True)


def pytest_configure(config: pytest.Config) -> None:
    """One book, in the process that reports."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(SkipBook(), "kilonova-skips")
