"""Enforcement models: what limits of a project may say, given those of its domain and of other projects.

`flat`: nothing. `strict_two_level`: a project's limit is never above its domain's, or the registered default.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from kilonova.base.faults import Fault, Kind

Model = Literal["flat", "strict_two_level"]
DESCRIPTIONS: dict[Model, str] = {
    "flat": "Limit enforcement and validation does not take project hierarchy into consideration.",
    "strict_two_level": (
        "This model requires project hierarchy never exceeds a depth of two, and no project has a limit above "
        "that of its domain."
    ),
}


def _refused(why: str) -> Fault:
    return Fault(Kind.FORBIDDEN, f"Invalid resource limit: {why}.")


def check_project(model: Model, wanted: int, domains: int | None, default: int) -> None:
    """FORBIDDEN when a project may not have `wanted`; `domains` is its domain's limit, None when it has none."""
    above = default if domains is None else domains
    if model == "strict_two_level" and wanted > above:
        raise _refused(f"{wanted} is above {above}, the limit of the project's domain")


def check_domain(model: Model, wanted: int, projects: Iterable[int]) -> None:
    """FORBIDDEN when a domain may not have `wanted`, as one of its projects was given more."""
    highest = max(projects, default=0)
    if model == "strict_two_level" and wanted < highest:
        raise _refused(f"{wanted} is below {highest}, the limit of a project in the domain")
