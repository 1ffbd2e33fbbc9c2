"""Where things stand: SQL in stores, contracts that explain themselves, locked versions, written-down decisions."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.tidy.source import ROOT, all_text_files, name, python_files, tree

STATEMENTS = {"select", "insert", "update", "delete", "text", "exists"}
# Besides store.py files: the ground that stores stand on, the journal, and the agents' own ledger.
SQL_PLACES = re.compile(
    r"(^|/)(store|\w+_store)\.py$|/db/|/migrations/|/saga/journal\w*\.py$|/node/(\w+/)*ledger\w*\.py$"
)


def statements(module: ast.Module) -> list[tuple[int, str]]:
    """(line, name) of each SQLAlchemy statement function that a module brings in."""
    found = []
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "sqlalchemy":
            found += [(node.lineno, alias.name) for alias in node.names if alias.name in STATEMENTS]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.attr in STATEMENTS:
            found += [(node.lineno, node.attr)] if node.value.id in ("sa", "sqlalchemy") else []
    return found


def test_sql_is_written_in_stores_only() -> None:
    told = []
    for path in python_files("kilonova"):
        if SQL_PLACES.search(name(path)):
            continue
        told += [f"{name(path)}:{line}: {what} belongs into a store.py" for line, what in statements(tree(path))]
    assert told == []


def undocumented(path: Path) -> list[str]:
    """Public classes and functions (and the module) that say nothing, one-line protocol verbs aside."""
    told = [] if ast.get_docstring(tree(path)) else [f"{name(path)}: module"]
    for node in tree(path).body:
        public = isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith(
            "_"
        )
        if public and not ast.get_docstring(node):  # type: ignore[arg-type]
            told.append(f"{name(path)}:{node.lineno}: {node.name}")  # type: ignore[attr-defined]
    return told


@pytest.mark.parametrize(
    "path", [p for p in python_files("kilonova") if p.name == "contract.py" or p.parent.name == "contract"], ids=name
)
def test_contracts_explain_themselves(path: Path) -> None:
    assert undocumented(path) == []


def test_every_module_says_what_it_is() -> None:
    assert [name(p) for p in python_files("kilonova", "scripts") if not ast.get_docstring(tree(p))] == []


def test_every_requirement_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = {}
    for file in ("requirements.lock", "requirements-test.lock"):
        for line in (ROOT / file).read_text().splitlines():
            if line and not line.startswith("#"):
                package, version = line.split("==")
                pins[canonicalize_name(package)] = version
    wanted = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    told = [
        f"{text}: locked {pins.get(canonicalize_name(Requirement(text).name))}; install it and run `make lock`"
        for text in wanted
        if not Requirement(text).specifier.contains(pins.get(canonicalize_name(Requirement(text).name), ""))
    ]
    assert told == []


def test_links_between_documents_lead_somewhere() -> None:
    told = []
    for path in all_text_files():
        if path.suffix == ".md":
            for target in re.findall(r"\]\(([^)#\s]+)", path.read_text()):
                if not re.match(r"[a-z]+:", target) and not (path.parent / target).exists():
                    told.append(f"{name(path)}: {target}")
    assert told == []


def test_decisions_are_numbered_in_order_and_indexed() -> None:
    folder = ROOT / "docs/decisions"
    records = sorted(p.name for p in folder.glob("[0-9]*.md"))
    assert [int(r[:4]) for r in records] == list(range(1, len(records) + 1))
    index = (folder / "README.md").read_text()
    assert [r for r in records if r not in index] == []
