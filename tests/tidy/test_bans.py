"""What may not be written, and where: names that hide, clocks that cannot be simulated, catches that swallow."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.tidy.source import all_text_files, dotted, name, python_files, service_files, tree

VAGUE_MODULES = {"utils", "util", "common", "helpers", "helper", "manager", "misc"}
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX|HA" r"CK)\b|NotImplemented" r"Error")
WORKPLACE = re.compile(r"(?<![\w.])/wo" r"rk(?=[/\s\"'`]|$)|\bsha" r"red/(?:mission|design|stack|machine|recipes)")

# The dotted name, or its last two parts, of what a World gives instead.
MACHINE = {
    "datetime.now": "world.clock",
    "datetime.utcnow": "world.clock",
    "time.time": "world.clock",
    "time.monotonic": "world.clock",
    "time.sleep": "world.clock",
    "asyncio.sleep": "world.clock",
    "uuid.uuid4": "world.ids",
    "uuid.uuid1": "world.ids",
    "secrets.token_hex": "world.ids or world.random",
    "os.environ": "settings",
    "os.getenv": "settings",
    "asyncio.to_thread": "world.blocking",
    "asyncio.create_task": "world.spawn",
    "asyncio.ensure_future": "world.spawn",
}
RANDOM = {"random", "randint", "choice", "choices", "shuffle", "sample", "uniform", "randrange", "getrandbits"}
# `node` adapters touch the machine, but time and chance are injected there too.
NODE_MAY = {"os.environ", "secrets.token_hex"}
EDGES: dict[str, set[str]] = {}  # file: what it may use all the same


CATCH_ALL_FILES = {
    "kilonova/http/app.py": "the door: whatever escapes becomes an answer, never a dropped connection",
    "kilonova/saga/runner.py": "whatever a step raises becomes the operation's fault, and its undos run",
}


def machine_uses(path: Path) -> list[tuple[int, str]]:
    """(line, what) of each direct use of clock, chance, environment, task or thread."""
    found = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute):
            short = ".".join(dotted(node).split(".")[-2:])
            if short in MACHINE:
                found.append((node.lineno, short))
            elif node.attr in RANDOM and dotted(node) == f"random.{node.attr}":
                found.append((node.lineno, dotted(node)))
            elif node.attr == "run_in_executor":
                found.append((node.lineno, "run_in_executor"))
        elif isinstance(node, ast.ImportFrom) and node.module in ("random", "time", "uuid", "secrets", "threading"):
            names = {alias.name for alias in node.names}
            if hidden := names & (RANDOM | {"time", "monotonic", "sleep", "uuid4", "token_hex", "Thread"}):
                found.append((node.lineno, f"from {node.module} import {', '.join(sorted(hidden))}"))
    return found


def broad_catches(path: Path) -> list[int]:
    """Lines of `except:` and `except Exception` (or BaseException) that carry no `# edge: why`."""
    text = path.read_text().splitlines()
    found = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ExceptHandler):
            kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            broad = any(kind is None or dotted(kind) in ("Exception", "BaseException") for kind in kinds)
            if broad and "# edge: " not in text[node.lineno - 1]:
                found.append(node.lineno)
    return found


def test_no_vague_module_names() -> None:
    assert [name(p) for p in python_files("kilonova", "tests") if {p.stem, p.parent.name} & VAGUE_MODULES] == []


def test_services_take_time_chance_and_threads_from_their_world() -> None:
    told = [
        f"{name(path)}:{line}: {what}: use {MACHINE.get(what, 'World (base/world.py)')}"
        for path in service_files()
        for line, what in machine_uses(path)
        if what not in EDGES.get(name(path), set())
    ]
    assert told == []


def test_host_adapters_take_time_and_chance_from_their_world() -> None:
    told = [
        f"{name(path)}:{line}: {what}"
        for path in python_files("kilonova/node")
        for line, what in machine_uses(path)
        if what not in NODE_MAY
    ]
    assert told == []


def test_only_edges_catch_everything() -> None:
    told = [
        f"{name(p)}:{line}: catch what you expect, or say why here: `except Exception:  # edge: …`"
        for p in service_files()
        if name(p) not in CATCH_ALL_FILES
        for line in broad_catches(p)
    ]
    assert told == []


def test_nothing_is_left_unfinished() -> None:
    told = [
        f"{name(path)}:{number}: {line.strip()}"
        for path in python_files("kilonova", "tests", "scripts")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if UNFINISHED.search(line)
    ]
    assert told == []


def test_the_project_stands_alone() -> None:
    told = [
        f"{name(path)}:{number}: {line.strip()[:100]}"
        for path in all_text_files()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if WORKPLACE.search(line)
    ]
    assert told == []


def test_tests_patch_nothing() -> None:
    patch = re.compile(r"unittest" r"(\.| import )mock|\bmock\.patch|\bmonkeypatch\.setattr")
    told = [
        f"{name(path)}:{number}: hand the part in instead (fakes are real adapters)"
        for path in python_files("tests")
        if path != Path(__file__)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if patch.search(line)
    ]
    assert told == []


@pytest.mark.parametrize(
    "source",
    ["import time\ntime.time()", "import datetime\ndatetime.datetime.now()", "import random\nrandom.choice([1])",
     "loop.run_in_executor(None, f)", "from time import sleep", "import os\nx = os.environ['A']"],
)  # fmt: skip
def test_the_machine_rule_itself(source: str, tmp_path: Path) -> None:
    file = tmp_path / "sample.py"
    file.write_text(source)
    assert len(machine_uses(file)) == 1


def test_the_catch_rule_itself(tmp_path: Path) -> None:
    file = tmp_path / "sample.py"
    catches = [
        "except Exception:",
        "except Exception:  # edge: the last resort",
        "except (OSError, Exception):",
        "except OSError:",
    ]
    file.write_text("".join(f"try:\n    pass\n{catch}\n    pass\n" for catch in catches))
    assert broad_catches(file) == [3, 11]
