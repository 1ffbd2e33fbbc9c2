"""A cluster of several machines: every API and worker in copies behind HAProxy, a network node, compute hosts.

Each machine is a network namespace (landscape.py) with its own settings file and state directory. Database, broker and
memcached are in the test's own namespace, on its management address. `python -m tests.cluster` runs it for a developer.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openstack

from kilonova.cli.database import SERVICES
from kilonova.cli.state import write_private
from tests.cluster.balancer import Balancer, Copy
from tests.cluster.cloud_rig import APIS, ROOT, unprivileged
from tests.cluster.landscape import EXTERNAL, Landscape, Node
from tests.services import PASSWORD, MariaDB, Memcached, PostgreSQL, RabbitMQ, authority

WORKERS = ("conductor", "scheduler", "network-worker", "volume-scheduler", "image-worker")
NETWORK_AGENTS = ("l2-agent", "l3-agent", "dhcp-agent", "metadata-agent", "volume-agent")
COMPUTE_AGENTS = ("l2-agent", "compute-agent")
READY_SECONDS = 240
HIDDEN = "rich=None, pygments=None, trio=None"  # libraries load these when they are there: tests bring them along
BARE = f"import sys; sys.modules.update({HIDDEN}); from kilonova.cli.main import main; sys.exit(main())"
# A child that is to die with its parent dies with the parent's thread: one that lives to the end starts them all.
_starter = ThreadPoolExecutor(1, thread_name_prefix="machines-starter")


@dataclass(frozen=True)
class Shape:
    """What kind of cluster: `real` or fake guests and networks, how many hosts, how many copies of services."""

    real: bool = False
    hosts: int = 3
    copies: int = 2
    database: str = "postgresql"
    bare: bool = False  # processes find no package that only tests need


@dataclass(frozen=True)
class Program:
    """One process: a service's name, the node it runs on, the name it goes by there."""

    service: str
    node: Node
    host: str
    port: int = 0
    admin_port: int = 0


class Machines:
    """`programs` in the order they start, by "service@host"; `running` are those that live."""

    def __init__(self, shape: Shape, directory: Path) -> None:
        self.shape, self.directory = shape, directory
        self.land = Landscape(shape.hosts)
        self.user = unprivileged()
        self.programs = {f"{one.service}@{one.host}": one for one in self._plan()}
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.invitations: dict[str, str] = {}  # of programs that have not joined yet
        self.broker: RabbitMQ
        self.server: PostgreSQL | MariaDB
        self.balancer: Balancer

    def _plan(self) -> Iterator[Program]:
        control, admin, port = self.land.controller, 9300, 10000
        for copy in range(1, self.shape.copies + 1):
            for name in (*APIS, *WORKERS):
                admin, port = admin + 1, port + 1
                yield Program(name, control, f"ctl{copy}", port if name in APIS else 0, admin)
        yield Program("trace-collector", control, "ctl1", 0, admin + 1)
        for name in NETWORK_AGENTS:
            yield Program(name, self.land.network, "net1")
        for node in self.land.computes:
            for name in COMPUTE_AGENTS:
                yield Program(name, node, node.name)

    # ── up

    @contextmanager
    def up(self, told: Callable[[str], None] = lambda _line: None) -> Iterator[Machines]:
        """All of it runs; at the end nothing is left."""
        with ExitStack() as stack:
            stack.callback(self.land.remove)
            self.land.build()
            at = self.land.root_ip
            self.broker = stack.enter_context(RabbitMQ(at))
            self.server = stack.enter_context(MariaDB(at) if self.shape.database == "mariadb" else PostgreSQL(at))
            stack.enter_context(Memcached(at))
            told("database, RabbitMQ and memcached answer")
            for service in SERVICES:
                suffix = " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin" if self.shape.database == "mariadb" else ""
                self.server.sql(f"CREATE DATABASE kilonova_{service}{suffix}")
            write_private(self.directory / "ca.pem", authority().certificate.encode())
            write_private(self.directory / "ca.key", authority().key.encode())
            (self.directory / "ca.pem").chmod(0o644)
            self.balancer = stack.enter_context(Balancer(self.land.controller, self._copies()))
            for node in self.land.nodes:
                self.write_settings(node)
            stack.callback(self._purge_hosts)
            stack.callback(self.stop)
            self.run(self.land.controller, "db", "upgrade")
            told("schemas and the first users are there")
            self.start(*(key for key, one in self.programs.items() if one.node is self.land.controller))
            self.balancer.wait(30)
            told(f"{len(self.running)} control processes are ready")
            self.start(*self.join())
            self.start(*(key for key in self.programs if key not in self.running))
            told(f"{len(self.running)} processes in all")
            yield self

    def join(self) -> list[str]:
        """Invite every other machine; the programs that join, one on each, whose files the others then find."""
        joining = []
        for node in (self.land.network, *self.land.computes):
            roles = ("network", "volume") if node is self.land.network else ("compute",)
            said = self.run(self.land.controller, "host", "invite", node.name, *(f"--role={role}" for role in roles))
            first = next(key for key, one in self.programs.items() if one.node is node)
            self.invitations[first] = said.split("--join ")[1].split()[0]
            joining.append(first)
        return joining

    def _copies(self) -> dict[str, list[Copy]]:
        return {
            mount: [Copy(p.host, p.port) for p in self.programs.values() if p.service == api]
            for api, mount in APIS.items()
        }

    def settings_file(self, node: Node) -> Path:
        return self.directory / node.name / "cluster.toml"

    def write_settings(self, node: Node) -> None:
        """The machine's settings file and directory."""
        driver, real = "mysql" if self.shape.database == "mariadb" else "postgresql", self.shape.real
        place = self.directory / node.name
        place.mkdir(exist_ok=True)
        if self.user and node is self.land.controller:
            account = pwd.getpwnam(self.user)
            os.chown(place, account.pw_uid, account.pw_gid)
        own = f"""
[cluster]
directory = "{place}"
host_ip = "{node.host_ip}"
tunnel_ip = "{node.tunnel_ip}"
external_interface = "{node.external if real else ""}"
"""
        control = f"""user = "{self.user}"
secrets = "{self.directory}/secrets.json"
url = "{self.balancer.url}"
database = "{driver}://kilonova:{PASSWORD}@{self.land.root_ip}:{self.server.port}/kilonova_{{service}}"
database_connections = 3
brokers = ["{self.broker.tls_url}"]
broker_admin = "{self.broker.admin_url}"
hypervisor = "{"libvirt" if real else "fake"}"
network = "{"linux" if real else "fake"}"
accelerator = "tcg"
volumes = "{self.directory}/volumes"

[cluster.tls]
authority = "{self.directory}/ca.pem"
authority_key = "{self.directory}/ca.key"

[cluster.endpoints]
metadata = "{self.balancer.metadata_url}"

[compute]
cpu_allocation_ratio = 16.0

[network]
underlay_mtu = 1550
"""
        self.settings_file(node).write_text(own + (control if node is self.land.controller else ""))
        self.settings_file(node).chmod(0o600)

    # ── processes

    def command(self, node: Node, *words: str) -> list[str]:
        """`kilonova WORDS --config FILE` on a machine."""
        program = ["-c", BARE] if self.shape.bare else ["-m", "kilonova.cli.main"]
        return node.inside(sys.executable, *program, *words, "--config", str(self.settings_file(node)))

    def run(self, node: Node, *words: str, check: bool = True) -> str:
        """The same, to its end; what it printed."""
        done = subprocess.run(
            self.command(node, *words), cwd=ROOT, capture_output=True, text=True, timeout=180, check=False
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def start(self, *keys: str) -> None:
        """Start these, and return when all say that they are ready."""
        for key in keys:
            self.running[key] = _starter.submit(self._spawn, self.programs[key]).result()
        end = time.monotonic() + READY_SECONDS
        for key in keys:
            while b"ready" not in self.said(key).encode():
                assert self.running[key].poll() is None, f"{key} ended:\n{self.log(key)}"
                assert time.monotonic() < end, f"{key} is not ready:\n{self.log(key)}"
                time.sleep(0.1)

    def _spawn(self, one: Program) -> subprocess.Popen[bytes]:
        words = ["service", one.service, "--host", one.host]
        words += ["--join", line] if (line := self.invitations.pop(f"{one.service}@{one.host}", "")) else []
        words += ["--listen", f"127.0.0.1:{one.port}"] if one.port else []
        environment = os.environ | {"KILONOVA_CLUSTER_ADMIN_PORT": str(one.admin_port)}
        key = f"{one.service}@{one.host}"
        (self.directory / f"{key}.said").write_text("")
        enter = one.node.inside()
        program = self.command(one.node, *words)[len(enter) :]
        with (self.directory / f"{key}.log").open("ab") as log, (self.directory / f"{key}.said").open("ab") as said:
            return subprocess.Popen(
                [*enter, "setpriv", "--pdeathsig", "KILL", *program],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=log,
            )

    def said(self, key: str) -> str:
        return (self.directory / f"{key}.said").read_text()

    def log(self, key: str) -> str:
        """The end of what a process logged."""
        return (self.directory / f"{key}.log").read_text(errors="replace")[-3000:]

    def kill(self, *keys: str) -> None:
        """kill -9."""
        for key in keys:
            self.running[key].kill()
        for key in keys:
            self.running.pop(key).wait()

    def restart(self, key: str) -> None:
        """Politely stop one process, and start it again."""
        self.leave(key)
        self.start(key)

    def leave(self, *keys: str) -> None:
        """SIGTERM; it must end by itself, with 0."""
        for key in keys:
            self.running[key].send_signal(signal.SIGTERM)
        for key in keys:
            process = self.running.pop(key)
            try:
                code = process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
            assert code == 0, f"{key} left with {code}:\n{self.log(key)}"

    def stop(self) -> None:
        """End what runs: agents before those who answer them. At the end of a test nobody minds a hard one."""
        for control in (False, True):
            leaving = [key for key in self.running if (self.programs[key].node is self.land.controller) is control]
            for key in leaving:
                self.running[key].send_signal(signal.SIGCONT)
                self.running[key].send_signal(signal.SIGTERM)
            end = time.monotonic() + 40
            for key in leaving:
                process = self.running.pop(key)
                try:
                    process.wait(max(end - time.monotonic(), 0.1))
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def _purge_hosts(self) -> None:
        """What agents made of real things."""
        if self.shape.real:
            for node in (self.land.network, *self.land.computes):
                self.run(node, "host", "purge", node.name)

    # ── users

    def sdk(self, name: str) -> Any:
        """An unmodified openstacksdk connection as `admin` or `demo`."""
        return openstack.connect(load_yaml_config=False, load_envvars=False, **self.login(name))

    def login(self, name: str) -> dict[str, str]:
        """What a client needs to know."""
        secrets = json.loads((self.directory / "secrets.json").read_text())
        return {
            "auth_url": f"{self.balancer.url}/identity/v3",
            "username": name,
            "password": secrets["admin_password" if name == "admin" else "member_password"],
            "project_name": name,
            "user_domain_name": "Default",
            "project_domain_name": "Default",
            "region_name": "RegionOne",
            "cacert": f"{self.directory}/ca.pem",
        }

    def furnish(self, image: bytes, disk_format: str) -> None:
        """A flavor, an image and the external network."""
        admin = self.sdk("admin")
        admin.compute.create_flavor(name="tiny", vcpus=1, ram=128, disk=1)
        kind = {"disk_format": disk_format, "container_format": "bare", "visibility": "public"}
        admin.image.create_image(name="cirros", **kind, data=image)
        public = {"provider_network_type": "flat", "provider_physical_network": "public", "is_router_external": True}
        network = admin.network.create_network(name="public", **public)
        admin.network.create_subnet(
            network_id=network.id,
            cidr=f"{EXTERNAL}.0/24",
            ip_version=4,
            gateway_ip=f"{EXTERNAL}.1",
            is_dhcp_enabled=False,
            allocation_pools=[{"start": f"{EXTERNAL}.10", "end": f"{EXTERNAL}.200"}],
        )


@contextmanager
def machines(shape: Shape, told: Callable[[str], None] = lambda _line: None) -> Iterator[Machines]:
    """A cluster that is up; purged at the end, and then nothing may be left."""
    directory = Path(tempfile.mkdtemp(prefix="knc", dir="/var/tmp"))  # short: libvirt's sockets live in it
    directory.chmod(0o711)
    made = Machines(shape, directory)
    try:
        with made.up(told):
            yield made
    finally:
        left = made.land.left_behind() + [line for line in mounts() if str(directory) in line]
        subprocess.run(["chattr", "-R", "-i", str(directory)], check=False, capture_output=True)
        shutil.rmtree(directory, ignore_errors=True)
        assert not left, left


def mounts() -> list[str]:
    return Path("/proc/mounts").read_text().splitlines()
