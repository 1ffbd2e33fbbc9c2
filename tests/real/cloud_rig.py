"""A real cloud for tests: `kilonova up` in a state directory of its own, and nothing left when it is purged."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openstack

from kilonova.cli import machine
from kilonova.cli.state import State, free_port

ROOT = Path(__file__).resolve().parents[2]
UP_SECONDS = 180


def missing() -> str:
    """Why no real cloud can be started here, or ""."""
    lacking = [need for need in (*machine.hypervisor_needs(), *machine.network_needs()) if not need.there]
    return ", ".join(dict.fromkeys(f"{need.what} ({need.fix})" for need in lacking))


class Cloud:
    """One cloud under test, driven through its command line."""

    def __init__(self, directory: Path, *options: str, environment: dict[str, str] | None = None) -> None:
        self.directory = directory
        self.state = State(directory)
        self.prefix = "nothing is named so"  # until it is up
        self.port = free_port("127.0.0.1", 17000 + os.getpid() % 2000)
        self.options = ("--listen", f"127.0.0.1:{self.port}", "--uplink", "none", *options)
        self.environment = os.environ | {
            "KILONOVA_STATE": str(directory),
            "OS_CLIENT_CONFIG_FILE": str(self.state.clouds_yaml),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            **(environment or {}),
        }

    def run(self, *words: str, check: bool = True, timeout: int = UP_SECONDS) -> subprocess.CompletedProcess[str]:
        """`kilonova WORDS`."""
        command = [sys.executable, "-m", "kilonova.cli.main", *words]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, env=self.environment, cwd=ROOT, check=False
        )
        assert not check or done.returncode == 0, (
            f"kilonova {' '.join(words)}: {done.stdout}\n{done.stderr}\n{self.log()}"
        )
        return done

    def up(self) -> str:
        """Start it; returns what was printed."""
        told = self.run("up", "--detach", *self.options).stdout
        self.prefix = self.state.choices().prefix
        return told

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.run("status", "--json", check=False).stdout))

    def log(self, lines: int = 60) -> str:
        """The end of its log, for failures."""
        path = self.state.logs / "kilonova.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""

    def sdk(self, cloud: str = "kilonova") -> Any:
        """An unmodified openstacksdk connection: the member, or `kilonova-admin`."""
        config = openstack.config.OpenStackConfig(config_files=[str(self.state.clouds_yaml)], load_envvars=False)
        return openstack.connection.Connection(config=config.get_one(cloud))

    def kill(self) -> None:
        """kill -9 of the whole program."""
        pid = self.state.running()
        assert pid is not None
        os.kill(pid, 9)
        while self.state.running() is not None:
            pass

    def left_behind(self) -> list[str]:
        """What of it is still on this machine."""
        from kilonova.node.vswitch.links import Links
        from kilonova.node.vswitch.machine import left_behind

        found = left_behind(self.prefix)
        with Links() as links:
            found += [f"interface {name}" for name in links.all(self.prefix)]
        mine = str(self.directory).encode()
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_bytes()
            except OSError:
                continue
            if mine in command and int(process.name) != os.getpid():
                found.append(f"process {process.name} {command.decode(errors='replace')[:80]}")
        found += [line for line in Path("/proc/mounts").read_text().splitlines() if str(self.directory) in line]
        return found + ([str(self.directory)] if self.directory.exists() else [])


@contextmanager
def real_cloud(*options: str, environment: dict[str, str] | None = None) -> Iterator[Cloud]:
    """A cloud that is up, with settings in its environment; purged at the end, and then nothing may be left."""
    directory = Path(tempfile.mkdtemp(prefix="kn", dir="/var/tmp"))  # short: libvirt's socket lives in it
    directory.chmod(0o711)
    cloud = Cloud(directory, *options, environment=environment)
    try:
        cloud.up()
        yield cloud
    finally:
        done = cloud.run("down", "--purge", check=False)
        deadline = time.monotonic() + 10  # a process that was told to end may need a moment on a busy machine
        while (left := cloud.left_behind()) and time.monotonic() < deadline:
            time.sleep(0.2)
        shutil.rmtree(directory, ignore_errors=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert not left, left
