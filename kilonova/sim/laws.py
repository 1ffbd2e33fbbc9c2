"""The four laws of every operation, as plans for a runner's seams.

1. Fail each step: everything is undone. 2. Crash before and after each step: finished or undone. 3. Run each step
twice: the same world. 4. Run each undo twice: the same world.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from kilonova.base.faults import unavailable
from kilonova.saga.journal import OperationRow, StepRow

StepId = tuple[str, int]
How = Literal["nothing", "fail", "crash before", "crash after", "all twice", "undo twice"]


class Plan(msgspec.Struct, frozen=True):
    """What is done to one run: `how`, at the step `at` of operations of `kind`."""

    kind: str
    how: How = "nothing"
    at: StepId = ("", 0)

    def __str__(self) -> str:
        return f"{self.kind}: {self.how}" + (f" at {self.at[0]}[{self.at[1]}]" if self.at[0] else "")


class LawSeams:
    """Seams that carry out one plan, once, and note which steps were seen. `crash` kills the runner's process."""

    def __init__(self, plan: Plan, crash: Callable[[], None]) -> None:
        self.plan = plan
        self.crash = crash
        self.steps: list[StepId] = []
        self.struck = False

    async def before(self, row: OperationRow, step: StepRow, phase: str) -> None:
        if row.kind != self.plan.kind:
            return
        here = (step.step, step.index)
        if phase == "do":
            if here not in self.steps:
                self.steps.append(here)
            await self._strike(here, "crash before")
        if phase == "do" and self.plan.how in ("fail", "undo twice") and here == self.plan.at and not self.struck:
            self.struck = True
            raise unavailable(f"The plan fails {step.step}.")

    async def after(self, row: OperationRow, step: StepRow, phase: str) -> None:
        if row.kind == self.plan.kind and phase == "do":
            await self._strike((step.step, step.index), "crash after")

    def times(self, step: StepRow, phase: str) -> int:
        twice = (phase == "do" and self.plan.how == "all twice") or (phase == "undo" and self.plan.how == "undo twice")
        return 2 if twice else 1

    async def _strike(self, here: StepId, how: How) -> None:
        if self.plan.how == how and here == self.plan.at and not self.struck:
            import asyncio

            self.struck = True
            self.crash()
            await asyncio.get_running_loop().create_future()  # the process is dead: it never goes on


def plans(kind: str, steps: list[StepId]) -> list[Plan]:
    """Every plan for an operation with these steps (as an undisturbed run saw them)."""
    made = [Plan(kind, "all twice")]
    for at in steps:
        made += [Plan(kind, "fail", at), Plan(kind, "crash before", at), Plan(kind, "crash after", at)]
    made += [Plan(kind, "undo twice", at) for at in steps[1:]]
    return made
