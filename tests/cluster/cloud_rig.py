"""A cluster on this machine: every service a process of its own, over PostgreSQL and RabbitMQ, on fake hosts."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openstack

from kilonova.cli.ca import write_public
from kilonova.cli.database import SERVICES
from kilonova.cli.state import write_private
from tests.services import PASSWORD, PostgreSQL, RabbitMQ, authority, free_port

ROOT = Path(__file__).resolve().parents[2]
APIS = {
    "identity-api": "identity",
    "image-api": "image",
    "placement-api": "placement",
    "compute-api": "compute",
    "network-api": "network",
    "volume-api": "volume",
    "console-proxy": "console",
    "metadata-api": "metadata",
}
# A child that is to die with its parent dies with the parent's thread: one that lives to the end starts them all.
_starter = ThreadPoolExecutor(1, thread_name_prefix="cluster-starter")


class Cluster:
    """Its processes by (name, host); `user` is whom control processes become, "" when they stay who they are."""

    def __init__(self, directory: Path, broker: RabbitMQ, server: PostgreSQL) -> None:
        self.directory, self.broker, self.server = directory, broker, server
        self.prefix = f"kilonova_{free_port()}"
        self.user = unprivileged()
        self.processes: dict[tuple[str, str], subprocess.Popen[bytes]] = {}
        self.own: dict[str, Path] = {}  # hosts that joined: their settings file
        self.admin_ports: dict[tuple[str, str], int] = {}
        self.config = directory / "cluster.toml"
        self.config.write_text(self._settings())

    def _settings(self) -> str:
        endpoints = "".join(f'{mount} = "https://127.0.0.1:{free_port()}/{mount}"\n' for mount in APIS.values())
        return f"""
[cluster]
database = "postgresql://kilonova:{PASSWORD}@127.0.0.1:{self.server.port}/{self.prefix}_{{service}}?tls=on"
database_connections = 3
brokers = ["{self.broker.tls_url}"]
broker_admin = "{self.broker.admin_url}"
secrets = "{self.directory}/secrets.json"
directory = "{self.directory}/data"
user = "{self.user}"

[cluster.tls]
authority = "{self.authority}"
authority_key = "{self.directory}/ca/ca.key"
certificate = "{self.directory}/ca/node0.pem"
key = "{self.directory}/ca/node0.key"

[cluster.endpoints]
{endpoints}"""

    @property
    def authority(self) -> Path:
        return self.directory / "ca" / "ca.pem"

    def make_certificates(self) -> None:
        """The authority of the servers below is the cluster's too; a certificate of its own for the APIs."""
        self.authority.parent.mkdir()
        write_public(self.authority, authority().certificate)
        write_private(self.authority.with_name("ca.key"), authority().key.encode())
        self.certify("issue", "node0", "--address", "127.0.0.1")

    def certify(self, *words: str) -> None:
        """`kilonova ca WORDS`; the key stays readable for the control processes' user, so that SIGHUP finds it."""
        command = [sys.executable, "-m", "kilonova.cli.main", "ca", *words, "--directory", str(self.authority.parent)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        if self.user:
            key = self.authority.with_name("node0.key")
            os.chown(key, 0, pwd.getpwnam(self.user).pw_gid)
            key.chmod(0o640)

    def make_databases(self) -> None:
        for service in SERVICES:
            self.server.sql(f"CREATE DATABASE {self.prefix}_{service}")

    def drop_databases(self) -> None:
        for service in SERVICES:
            self.server.sql(f"DROP DATABASE IF EXISTS {self.prefix}_{service} WITH (FORCE)")

    def run(self, *words: str) -> str:
        """`kilonova WORDS --config FILE`, to its end."""
        done = self._run(words, self.config)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def refused(self, *words: str, config: Path) -> str:
        """What it says when it does not do it."""
        done = self._run(words, config)
        assert done.returncode == 1, done.stdout + done.stderr
        return done.stderr

    def _run(self, words: tuple[str, ...], config: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "kilonova.cli.main", *words, "--config", str(config)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    def invite(self, host: str, *roles: str) -> str:
        """An invitation for a host; from now on its processes have the settings file that joining fills."""
        self.own[host] = self.directory / host / "cluster.toml"
        self.own[host].parent.mkdir(exist_ok=True)
        self.own[host].write_text(f'[cluster]\ndirectory = "{self.directory}/{host}/data"\n')
        said = self.run("host", "invite", host, *(word for role in roles for word in ("--role", role)))
        return said.split("--join ")[1].split()[0]

    def config_of(self, host: str) -> Path:
        return self.own.get(host, self.config)

    def start(self, *services: tuple[str, ...]) -> None:
        """Start (name, host, more words) each, together, and return when all say that they are ready."""
        for one in services:
            self.processes[one[0], one[1]] = _starter.submit(self._spawn, *one).result()
        for name, host, *_ in services:
            stdout = self.processes[name, host].stdout
            assert stdout is not None
            lines = iter(stdout.readline, b"")
            assert any(b"ready" in line for line in lines), f"{name} on {host}: {self.log(name, host)}"

    def _spawn(self, name: str, host: str, *more: str) -> subprocess.Popen[bytes]:
        words = ["service", name, "--config", str(self.config_of(host)), "--host", host, *more]
        command = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "kilonova.cli.main", *words]
        self.admin_ports[name, host] = free_port()
        admin = {"KILONOVA_CLUSTER_ADMIN_PORT": str(self.admin_ports[name, host])}
        with (self.directory / f"{name}.{host}.log").open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=ROOT,
                env=os.environ | admin,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def log(self, name: str, host: str) -> str:
        """The end of what a process said."""
        return (self.directory / f"{name}.{host}.log").read_text(errors="replace")[-3000:]

    def handled(self, name: str, host: str, topic: str, verb: str) -> int:
        """How many messages of a topic a process has handled, as its metrics say."""
        url = f"http://127.0.0.1:{self.admin_ports[name, host]}/metrics"
        line = f'kilonova_bus_messages_total{{outcome="handled",topic="{topic}",verb="{verb}"}} '
        lines = httpx.get(url, timeout=10).text.splitlines()
        return sum(int(float(one.removeprefix(line))) for one in lines if one.startswith(line))

    def pause(self, *services: tuple[str, str]) -> None:
        """SIGSTOP: they hang."""
        for one in services:
            self.processes[one].send_signal(signal.SIGSTOP)

    def go_on(self, *services: tuple[str, str]) -> None:
        """SIGCONT."""
        for one in services:
            self.processes[one].send_signal(signal.SIGCONT)

    def leave(self, name: str, host: str) -> None:
        """SIGTERM, and wait."""
        process = self.processes.pop((name, host))
        process.terminate()
        assert process.wait(40) == 0, self.log(name, host)

    def kill(self, name: str, host: str) -> None:
        """kill -9."""
        process = self.processes.pop((name, host))
        process.kill()
        process.wait()

    def user_of(self, name: str, host: str) -> int:
        """The user id that a process runs as."""
        status = Path(f"/proc/{self.processes[name, host].pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1])

    def sdk(self, name: str) -> Any:
        """An unmodified openstacksdk connection as `admin` or `demo`."""
        secrets = json.loads((self.directory / "secrets.json").read_text())
        identity = next(line for line in self.config.read_text().splitlines() if line.startswith("identity ="))
        return openstack.connect(
            load_yaml_config=False,
            load_envvars=False,
            cacert=str(self.authority),
            auth_url=f"{identity.split(chr(34))[1]}/v3",
            username=name,
            password=secrets["admin_password" if name == "admin" else "member_password"],
            project_name=name,
            user_domain_name="Default",
            project_domain_name="Default",
            region_name="RegionOne",
        )

    def stop(self) -> dict[tuple[str, str], int]:
        """End every process politely, agents before those who answer them; exit codes of those that failed."""
        failed = {}
        for last in (False, True):
            leaving = {one: p for one, p in self.processes.items() if last or one[0].endswith(("agent", "compute"))}
            for process in leaving.values():
                process.send_signal(signal.SIGCONT)  # a test that failed may have left it paused
                process.send_signal(signal.SIGTERM)
            for one, process in leaving.items():
                del self.processes[one]
                try:
                    process.wait(40)
                except subprocess.TimeoutExpired:
                    process.kill()
                if code := process.wait():
                    failed[one] = code
        return failed


def unprivileged() -> str:
    """`nobody` when a process that root starts here can still load its program after it became that user; else ""."""
    if os.geteuid() != 0:
        return ""
    again = "from kilonova.cli.service import become; become('nobody'); import asyncpg, kilonova.cli.doctor"
    done = subprocess.run([sys.executable, "-c", again], cwd=ROOT, capture_output=True, check=False)
    return "nobody" if done.returncode == 0 else ""


@contextmanager
def cluster(broker: RabbitMQ, server: PostgreSQL) -> Iterator[Cluster]:
    """A cluster with its databases made; nothing runs yet. At the end nothing of it is left."""
    directory = Path(tempfile.mkdtemp(prefix="kilonova-cluster-"))
    made = Cluster(directory, broker, server)
    directory.chmod(0o755)
    if made.user:
        account = pwd.getpwnam(made.user)
        (directory / "data").mkdir()
        os.chown(directory / "data", account.pw_uid, account.pw_gid)
    try:
        made.make_certificates()
        made.make_databases()
        yield made
    finally:
        made.stop()
        made.drop_databases()
        shutil.rmtree(directory)
