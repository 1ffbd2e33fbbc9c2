"""Write requirements.lock and requirements-test.lock: exact versions of all that pyproject.toml asks for.

The versions are those of the environment this runs in, so: install, test, lock. `requirements.lock` is what
running needs (extras cluster, host and ldap), `requirements-test.lock` what the test and client extras add.
"""

from __future__ import annotations

import tomllib
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
BUILD = ["setuptools", "wheel"]


def closure(wanted: list[str], found: dict[str, str] | None = None) -> dict[str, str]:
    """Name → version of `wanted` and everything they require, as installed here."""
    found = {} if found is None else found
    todo = [(Requirement(text), frozenset[str]()) for text in wanted]
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        requirement, _ = todo.pop()
        extras = frozenset(requirement.extras) | {""}
        name = canonicalize_name(requirement.name)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        installed = distribution(requirement.name)
        found[name] = installed.version
        for text in installed.requires or []:
            child = Requirement(text)
            if child.marker is None or any(child.marker.evaluate({"extra": extra}) for extra in extras):
                todo.append((child, extras))
    return found


def main() -> None:
    """Write both files and say how many packages each pins."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    run = closure(project["dependencies"] + extras["cluster"] + extras["host"] + extras["ldap"] + BUILD)
    test = closure(extras["test"] + extras["client"])
    for file, pins in (("requirements.lock", run), ("requirements-test.lock", test.keys() - run.keys())):
        lines = [f"{name}=={(run | test)[name]}" for name in sorted(pins)]
        (ROOT / file).write_text("# Written by `make lock`; exact versions.\n" + "\n".join(lines) + "\n")
        print(f"{file}: {len(lines)} packages")


if __name__ == "__main__":
    main()
