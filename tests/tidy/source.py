"""The files that tidy reads, and the exceptions granted to them."""

from __future__ import annotations

import ast
import functools
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SERVICES = ("identity", "image", "placement", "compute", "network", "block_storage", "saga", "http", "policy")
TEXT_ENDINGS = {".py", ".md", ".sh", ".toml", ".txt", ".conf", ".json", ".svg", ".html", ".js", ".css", ".lock", ""}
SKIPPED = {".git", ".venv", ".venv-conformance", ".hypothesis", "__pycache__", "output", "node_modules"}  # and _cache


@functools.cache
def all_text_files() -> tuple[Path, ...]:
    """Every text file of the project, caches and installed things aside."""
    return tuple(sorted(_walk(ROOT)))


def _walk(folder: Path) -> list[Path]:
    found = []
    for path in folder.iterdir():
        if path.name in SKIPPED or path.name.endswith((".egg-info", "_cache")) or path.is_symlink():
            continue
        if path.is_dir():
            found += _walk(path)
        elif path.suffix in TEXT_ENDINGS and path.name != ".git":
            found.append(path)
    return found


def python_files(*under: str) -> list[Path]:
    """Python files below the given folders of the project."""
    return [p for p in all_text_files() if p.suffix == ".py" and any(p.is_relative_to(ROOT / u) for u in under)]


def service_files() -> list[Path]:
    """Python files of the packages that must run in simulation: everything injected, nothing touched directly."""
    return python_files(*(f"kilonova/{name}" for name in SERVICES))


@functools.cache
def tree(path: Path) -> ast.Module:
    """The parsed file."""
    return ast.parse(path.read_text(), str(path))


def name(path: Path) -> str:
    """The path as a reader types it."""
    return str(path.relative_to(ROOT))


def dotted(node: ast.expr) -> str:
    """`a.b.c` of an attribute chain; a call or subscript inside shows as an empty part."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def granted(rule: str) -> dict[str, int]:
    """What tests/tidy/ratchet.json grants for a rule: "file" or "file:function" → the size it may not pass."""
    ratchet: dict[str, dict[str, int]] = json.loads((Path(__file__).parent / "ratchet.json").read_text())
    return ratchet.get(rule, {})
