"""The option `immutable`: a domain, project or role that has it is not changed or deleted by mistake."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kilonova.base.faults import forbidden, invalid


def checked_options(options: Mapping[str, Any], noun: str) -> dict[str, Any]:
    """The options when there are such: `immutable`, yes or no or (to take it away) None."""
    for name, value in options.items():
        if name != "immutable" or not (value is None or isinstance(value, bool)):
            raise invalid(f"Invalid input for field {noun}.options: {name[:60]!r} cannot be {str(value)[:60]!r}.")
    return dict(options)


def merged_options(before: Mapping[str, Any] | None, given: Mapping[str, Any], noun: str) -> dict[str, Any]:
    """What the options are after a change."""
    merged = {**(before or {}), **checked_options(given, noun)}
    return {name: value for name, value in merged.items() if value is not None}


def check_changeable(noun: str, id_: str, options: Mapping[str, Any] | None, changes: Mapping[str, Any]) -> None:
    """FORBIDDEN while it is immutable, unless this very change ends that."""
    stays = changes.get("options", {}).get("immutable", True) is True
    if (options or {}).get("immutable") and stays:
        raise forbidden(f"{noun} {id_} is immutable.", hint="Set its option immutable to false first.")
