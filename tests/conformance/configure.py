"""A tempest workspace: `etc/tempest.conf` filled in, stestr set up."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

TEMPLATE = Path(__file__).with_name("tempest.conf.in")


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with each @NAME@ replaced; a name without a value is an error that says so."""
    wanted = set(re.findall(r"@([A-Z_]+)@", template))
    if lacking := wanted - set(values):
        raise ValueError(f"no value for {', '.join(sorted(lacking))}")
    return re.sub(r"@([A-Z_]+)@", lambda found: values[found[1]], template)


def configure(home: Path, values: Mapping[str, str]) -> None:
    """Write the workspace's files into `home`, as `tempest init` lays them out."""
    for folder in ("etc", "logs", "locks"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    text = fill(TEMPLATE.read_text(), {**values, "HOME": str(home)})
    (home / "etc/tempest.conf").write_text(text)
