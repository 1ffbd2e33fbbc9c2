"""Seams of a run: where tests put crashes, failures and repeats."""

from __future__ import annotations

from typing import Protocol

from kilonova.saga.journal import OperationRow, StepRow


class Seams(Protocol):
    """Where tests put crashes, failures and repeats. Live runners have none."""

    async def before(self, row: OperationRow, step: StepRow, phase: str) -> None:
        """`phase` is do or undo; may raise a Fault, or never return."""
        ...

    async def after(self, row: OperationRow, step: StepRow, phase: str) -> None: ...

    def times(self, step: StepRow, phase: str) -> int:
        """How often the step is performed: 2 tries whether repeats are harmless."""
        ...


class NoSeams:
    """Steps happen once, undisturbed."""

    async def before(self, row: OperationRow, step: StepRow, phase: str) -> None:
        """Nothing."""

    async def after(self, row: OperationRow, step: StepRow, phase: str) -> None:
        """Nothing."""

    def times(self, step: StepRow, phase: str) -> int:
        return 1
