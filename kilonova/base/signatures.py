"""What a function takes and returns, read from its annotations once: reading them is far dearer than most calls."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, get_type_hints


def hints_of(function: Callable[..., Any]) -> Mapping[str, Any]:
    """Parameter name → its type, and `return`; what is not annotated is not in it."""
    return _hints(getattr(function, "__func__", function))  # a bound method is a new object each time


@lru_cache(4096)
def _hints(function: Callable[..., Any]) -> Mapping[str, Any]:
    return get_type_hints(function)


@lru_cache(4096)
def parameters_of(function: Callable[..., Any]) -> tuple[str, ...]:
    """The names of its parameters, in order."""
    return tuple(inspect.signature(function).parameters)


def result_of(function: Callable[..., Any]) -> Any:
    """The type that it returns; Any when it does not say."""
    return hints_of(function).get("return", Any)
