"""The unmodified `openstack` client in this process, against a whole cloud in another."""

from __future__ import annotations

import io
import json
import logging
import shlex
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import pytest

from tests.fake_cloud import FakeCloud, fake_cloud

shell = pytest.importorskip("openstackclient.shell", reason="needs python-openstackclient: pip install .[client]")


class Client:
    """`client("server list")` is the parsed answer; `refused("…")` what a refused command prints."""

    def __init__(self, cloud: FakeCloud, *, member: bool) -> None:
        self._options = [
            f"--{name.lower().replace('_', '-')}={value}" for name, value in cloud.environment(member=member).items()
        ]

    def __call__(self, command: str, *, as_json: bool = True) -> Any:
        """What the command answers, from its JSON; or its text."""
        code, printed, said = self._run(f"{command} -f json" if as_json else command)
        assert code == 0, f"openstack {command}: {code}\n{printed[-1000:]}\n{said[-1000:]}"
        return json.loads(printed) if as_json else printed

    def do(self, command: str) -> None:
        """A command that prints nothing of interest."""
        self(command, as_json=False)

    def refused(self, command: str) -> str:
        """What the command says when it fails, as it must."""
        code, printed, said = self._run(command)
        assert code != 0, f"openstack {command} went through:\n{printed[-1000:]}"
        return printed + said

    def until(self, command: str, field: str, value: Any, seconds: float = 15.0) -> Any:
        """The answer of a show command once the field has the value."""
        deadline = time.monotonic() + seconds
        while (answer := self(command))[field] != value:
            assert time.monotonic() < deadline, f"openstack {command}: {field} is still {answer[field]!r}"
            time.sleep(0.1)
        return answer

    def _run(self, command: str) -> tuple[int, str, str]:
        _forget_clients()
        printed, said = io.StringIO(), io.StringIO()
        kept = list(logging.getLogger().handlers)
        try:
            with redirect_stdout(printed), redirect_stderr(said):
                program = shell.OpenStackShell()
                program.stdout, program.stderr = printed, said
                try:
                    code = program.run([*self._options, *shlex.split(command)])
                except SystemExit as left:
                    code = int(left.code or 0)
        finally:
            logging.getLogger().handlers = kept
        return code, printed.getvalue(), said.getvalue()


def _forget_clients() -> None:
    """The program keeps a service's client for its whole process, whoever logs in next: a process of ours runs many."""
    from openstackclient.common.clientmanager import ClientManager
    from osc_lib.clientmanager import ClientCache

    for owner in ClientManager.__mro__:
        for kept in vars(owner).values():
            if isinstance(kept, ClientCache):
                kept._handle = None


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeCloud]:
    """One cloud for the stories of a module."""
    with fake_cloud(tmp_path_factory.mktemp("clients") / "state") as made:
        yield made


@pytest.fixture(scope="module")
def member(cloud: FakeCloud) -> Client:
    """The member of project demo."""
    return Client(cloud, member=True)


@pytest.fixture(scope="module")
def admin(cloud: FakeCloud) -> Client:
    """The cloud's admin."""
    return Client(cloud, member=False)
