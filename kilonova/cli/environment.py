"""`kilonova env`, and the files that point clients at the cloud: openrc and clouds.yaml (0600)."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

from kilonova.cli.state import Choices, Secrets, State, write_private

REGION = "RegionOne"


def base_url(choices: Choices) -> str:
    """http://HOST:PORT where the services are mounted. A cloud that listens everywhere is named by loopback."""
    host, _, port = choices.listen.rpartition(":")
    return f"http://{'127.0.0.1' if host in ('0.0.0.0', '::', '[::]') else host}:{port}"


def variables(choices: Choices, secrets: Secrets, *, member: bool) -> dict[str, str]:
    """The OS_* variables of the admin, or of the member of the default project."""
    return {
        "OS_AUTH_URL": f"{base_url(choices)}/identity/v3",
        "OS_IDENTITY_API_VERSION": "3",
        "OS_USERNAME": "demo" if member else "admin",
        "OS_PASSWORD": secrets.member_password if member else secrets.admin_password,
        "OS_PROJECT_NAME": "demo" if member else "admin",
        "OS_USER_DOMAIN_NAME": "Default",
        "OS_PROJECT_DOMAIN_NAME": "Default",
        "OS_REGION_NAME": REGION,
    }


def shell_lines(values: dict[str, str]) -> str:
    """`export` lines; OS_CLOUD must not win over them."""
    return "unset OS_CLOUD OS_TOKEN\n" + "".join(f"export {name}='{value}'\n" for name, value in values.items())


def program() -> str:
    """How to call us again: by name when the shell finds it, else by the path of this environment."""
    if shutil.which("kilonova"):
        return "kilonova"
    mine = Path(sys.executable).with_name("kilonova")
    return os.path.relpath(mine) if mine.is_relative_to(Path.cwd()) else str(mine)


def write_files(state: State, choices: Choices, secrets: Secrets) -> None:
    """openrc (the member) and clouds.yaml with `kilonova-admin` and `kilonova`."""
    write_private(state.openrc, shell_lines(variables(choices, secrets, member=True)).encode())
    entries = "".join(
        f"""  {name}:
    auth:
      auth_url: {values["OS_AUTH_URL"]}
      username: {values["OS_USERNAME"]}
      password: {values["OS_PASSWORD"]}
      project_name: {values["OS_PROJECT_NAME"]}
      user_domain_name: Default
      project_domain_name: Default
    region_name: {REGION}
    identity_api_version: 3
"""
        for name, values in (
            ("kilonova-admin", variables(choices, secrets, member=False)),
            ("kilonova", variables(choices, secrets, member=True)),
        )
    )
    write_private(state.clouds_yaml, f"clouds:\n{entries}".encode())


def run(options: argparse.Namespace) -> int:
    """Print the lines: `eval "$(kilonova env)"`."""
    state = State(options.state)
    choices = state.need()
    print(shell_lines(variables(choices, state.secrets(), member=options.member)), end="")
    return 0
