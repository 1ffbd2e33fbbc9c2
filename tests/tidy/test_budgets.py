"""Sizes stay readable: functions ≤ 60 lines, files ≤ 500, ≤ 6 parameters. Exceptions only shrink (ratchet.json)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tidy.source import granted, name, python_files, tree

FUNCTION_LINES = 60
FILE_LINES = 500
PARAMETERS = 6
CONSTRUCTOR_PARAMETERS = 8
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(path: Path) -> Iterator[tuple[str, Function]]:
    """(file:qualified name, function) for each function of a file, nested ones too."""

    def walk(node: ast.AST, prefix: str) -> Iterator[tuple[str, Function]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, Function | ast.ClassDef):
                inner = f"{prefix}{child.name}"
                if isinstance(child, Function):
                    yield f"{name(path)}:{inner}", child
                yield from walk(child, f"{inner}.")
            else:
                yield from walk(child, prefix)

    yield from walk(tree(path), "")


def lines(function: Function) -> int:
    """Lines from the first decorator's end to the last statement; comments count, they are read too."""
    return (function.end_lineno or function.lineno) - function.lineno + 1


def too_many_parameters(function: Function) -> int:
    """How many parameters, when that is more than allowed: 6, or 8 when what is beyond 6 is keyword-only."""
    arguments = function.args
    positional = [a.arg for a in arguments.posonlyargs + arguments.args]
    if positional and positional[0] in ("self", "cls"):
        positional.pop(0)
    count = len(positional) + len(arguments.kwonlyargs)
    roomy = function.name == "__init__" or len(positional) <= PARAMETERS
    return count if count > (CONSTRUCTOR_PARAMETERS if roomy else PARAMETERS) else 0


def over(sizes: dict[str, int], limit: int, rule: str) -> list[str]:
    """Lines for a reader: what passes the limit and is not granted, and what was granted more than it now needs."""
    allowed = granted(rule)
    told = [f"{what}: {size} > {max(limit, allowed.get(what, 0))}" for what, size in sizes.items()
            if size > max(limit, allowed.get(what, 0))]  # fmt: skip
    told += [f"{what}: ratchet.json grants {grant}, now {sizes.get(what, 0)}: lower or remove it"
             for what, grant in allowed.items() if sizes.get(what, 0) < grant]  # fmt: skip
    return told


def test_functions_are_at_most_60_lines() -> None:
    sizes = {key: lines(f) for path in python_files("kilonova", "tests", "scripts") for key, f in functions(path)}
    assert sizes
    assert over(sizes, FUNCTION_LINES, "function_lines") == []


def test_files_are_at_most_500_lines() -> None:
    sizes = {name(p): len(p.read_text().splitlines()) for p in python_files("kilonova", "tests", "scripts")}
    assert sizes
    assert over(sizes, FILE_LINES, "file_lines") == []


def test_functions_have_at_most_6_parameters() -> None:
    counts = {key: too_many_parameters(f) for path in python_files("kilonova") for key, f in functions(path)}
    assert counts
    assert over(counts, 0, "parameters") == []


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("def f(a, b, c, d, e, f): ...", 0),
        ("def f(a, b, c, d, e, f, g): ...", 7),
        ("def f(self, a, b, c, d, e, f): ...", 0),
        ("def f(a, b, *, c, d, e, f, g, h): ...", 0),
        ("def f(a, b, *, c, d, e, f, g, h, i): ...", 9),
        ("def __init__(self, a, b, c, d, e, f, g, h): ...", 0),
    ],
)
def test_the_parameter_rule_itself(source: str, count: int) -> None:
    function = ast.parse(source).body[0]
    assert isinstance(function, ast.FunctionDef)
    assert too_many_parameters(function) == count
