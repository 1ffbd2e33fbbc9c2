"""Real PostgreSQL, MariaDB, RabbitMQ and memcached for tests: no systemd, own directories, loopback by default.

Each runs on a free port, as its own unprivileged user when we are root, and dies with the test run. Two of a kind
can run side by side. Data is thrown away at the end, so nothing waits for a disk.
"""

from __future__ import annotations

import functools
import os
import pwd
import random
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import pytest

from kilonova.pki.authority import Authority, issue_for_host, new_authority
from kilonova.pki.contexts import trusting

PASSWORD = "test-only"
_ports = random.Random(os.getpid())
_given: set[int] = set()
# A child asked to die with its parent dies with the parent's *thread*: all are started by one that lives to the end.
_starter = ThreadPoolExecutor(1, thread_name_prefix="service-starter")


def free_port() -> int:
    """A free loopback port below the ephemeral range, where a reconnecting client can never connect to itself.

    None is given twice: who asked for it may not have bound it yet.
    """
    while True:
        port = _ports.randrange(15_000, 32_000)
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            _given.add(port)
            return port


def binary(name: str, package: str) -> str:
    """The path of a program; skips the test, saying which Debian package to install, when it is missing."""
    places = [*os.get_exec_path(), "/usr/sbin", *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin")))]
    found = shutil.which(name, path=os.pathsep.join(places))
    if found is None:
        pytest.skip(f"{name} is missing: install the Debian package {package}")
    return found


@functools.cache
def authority() -> Authority:
    """Whose certificates the servers of this test run have."""
    return new_authority("Kilonova's tests", datetime.now(UTC))


def trusting_tests() -> ssl.SSLContext:
    """A client's context that trusts them."""
    return trusting(authority().certificate)


class Service:
    """One server process with a directory of its own, and a certificate for its address."""

    user = ""
    polite = signal.SIGTERM
    start_seconds = 60.0

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.address = address
        self.port = free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="kilonova-test-"))
        self._processes: list[subprocess.Popen[bytes]] = []
        if os.geteuid() == 0:
            account = pwd.getpwnam(self.user)
            os.chown(self.directory, account.pw_uid, account.pw_gid)
        self._write_certificate()
        self.prepare()

    def _write_certificate(self) -> None:
        """ca.pem, server.pem and server.key; the key for the server's user alone, or servers refuse it."""
        issued = issue_for_host(authority(), [self.address], datetime.now(UTC), 2)
        given = {"ca.pem": authority().certificate, "server.pem": issued.certificate, "server.key": issued.key}
        for name, text in given.items():
            path = self.directory / name
            path.write_text(text)
            path.chmod(0o600)
            if os.geteuid() == 0:
                shutil.chown(path, self.user)

    def prepare(self) -> None:
        """Make data directories and settings files, once."""

    def command(self) -> list[str]:
        """The server's command line; it stays in the foreground."""
        raise LookupError(f"{type(self).__name__} has no command")

    def environment(self) -> dict[str, str]:
        """Its environment: nothing of ours."""
        return {"PATH": os.environ["PATH"], "HOME": str(self.directory), "LC_ALL": "C.UTF-8"}

    def answers(self) -> bool:
        """Whether it serves by now."""
        try:
            socket.create_connection((self.address, self.port), 1).close()
        except OSError:
            return False
        return True

    def start(self) -> Self:
        """Return once it serves."""
        server = self.spawn(self.command())
        deadline = time.monotonic() + self.start_seconds
        while not self.answers():
            if server.poll() is not None or time.monotonic() > deadline:
                self.stop()
                log = (self.directory / "log").read_text(errors="replace")[-3000:]
                raise AssertionError(f"{type(self).__name__} did not start:\n{log}")
            time.sleep(0.1)
        return self

    def spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        """Start a process as the service's user; it is stopped with the service, or when this process dies."""
        with (self.directory / "log").open("ab") as log:
            process = _starter.submit(
                subprocess.Popen,
                self.as_user(["setpriv", "--pdeathsig", "TERM", *command]),
                env=self.environment(),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            ).result()
        self._processes.append(process)
        return process

    def run(self, command: list[str], extra: Mapping[str, str] | None = None) -> str:
        """Run a program to its end as the service's user; its output."""
        done = subprocess.run(
            self.as_user(command),
            env=self.environment() | dict(extra or {}),
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{command[0]} failed: {done.stdout}{done.stderr}"
        return done.stdout

    def as_user(self, command: list[str]) -> list[str]:
        """`command`, run as the service's user when we are root."""
        if os.geteuid() != 0:
            return command
        return ["setpriv", "--reuid", self.user, "--regid", self.user, "--init-groups", *command]

    def kill(self) -> None:
        """End the server as a power cut does: SIGKILL, no goodbye."""
        self._end(signal.SIGKILL, self._processes[-1:])

    def stop(self) -> None:
        """End it politely; insist after 20 seconds."""
        self._end(self.polite, list(reversed(self._processes)))

    def restart(self, *, kill: bool = False, down_seconds: float = 0.0) -> None:
        """Stop (or kill) and start again on the same port with the same data."""
        self.kill() if kill else self._end(self.polite, self._processes[-1:])
        time.sleep(down_seconds)
        self.start()

    def close(self) -> None:
        """Stop and remove every trace."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    def _end(self, how: signal.Signals, processes: list[subprocess.Popen[bytes]]) -> None:
        for process in processes:
            process.send_signal(how)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            # Its own children (port mappers, workers) are in its session and go with it.
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self._processes.remove(process)


class RabbitMQ(Service):
    """A broker with its own node name, port mapper and data directory."""

    user = "rabbitmq"

    def prepare(self) -> None:
        self._server = Path(binary("rabbitmq-server", "rabbitmq-server"))
        installed = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # Debian's wrapper fixes the directories
        self._server = installed if installed.exists() else self._server
        self._mapper_port, self._node_port = free_port(), free_port()
        self.tls_port, self.admin_port = free_port(), free_port()
        papers = {"cacertfile": "ca.pem", "certfile": "server.pem", "keyfile": "server.key"}
        options = {name: f"{self.directory}/{file}" for name, file in papers.items()}
        (self.directory / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = {self.address}:{self.port}\nloopback_users = none\n"
            f"listeners.ssl.1 = {self.address}:{self.tls_port}\n"
            + "".join(f"ssl_options.{name} = {file}\n" for name, file in options.items())
            + "".join(f"management.ssl.{name} = {file}\n" for name, file in options.items())
            + f"management.ssl.ip = {self.address}\nmanagement.ssl.port = {self.admin_port}\n"
            "disk_free_limit.absolute = 50MB\n"
            "vm_memory_high_watermark.absolute = 400MB\n"
            "raft.wal_max_size_bytes = 16000000\n"
            "log.file = false\nlog.console = true\nlog.console.level = warning\n"
            "management_agent.disable_metrics_collector = true\n"
        )
        (self.directory / "plugins").write_text("[rabbitmq_management].\n")

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@{self.address}:{self.port}/"

    @property
    def tls_url(self) -> str:
        return f"amqps://guest:guest@{self.address}:{self.tls_port}/"

    @property
    def admin_url(self) -> str:
        """Its management API, as the administrator; TLS."""
        return f"https://guest:guest@{self.address}:{self.admin_port}/"

    @property
    def node(self) -> str:
        return f"kilonova-{self.port}@localhost"

    def environment(self) -> dict[str, str]:
        at = str(self.directory)
        return super().environment() | {
            "ERL_EPMD_PORT": str(self._mapper_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": f"{at}/rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{at}/plugins",
            "RABBITMQ_MNESIA_BASE": f"{at}/data",
            "RABBITMQ_LOG_BASE": at,
            "RABBITMQ_PID_FILE": f"{at}/pid",
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_DIST_PORT": str(self._node_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none",
            "RUNNING_UNDER_SYSTEMD": "true",  # the start script becomes the server: its pid is the one we end
        }

    def command(self) -> list[str]:
        return [str(self._server)]

    def start(self) -> Self:
        if not self._processes:
            self.spawn([binary("epmd", "erlang-base"), "-port", str(self._mapper_port), "-address", "127.0.0.1"])
        return super().start()

    def answers(self) -> bool:
        try:
            with socket.create_connection((self.address, self.port), 1) as connection:
                connection.settimeout(2)
                connection.sendall(b"AMQP\x00\x00\x09\x01")
                return len(connection.recv(1)) == 1
        except OSError:
            return False

    def queues(self) -> list[str]:
        """The names of its queues, as the operator's tool lists them."""
        return sorted(self.run(self.control("list_queues", "name", "--no-table-headers").split()).split())

    def control(self, *words: str) -> str:
        """The command line of the operator's tool, for the broker's user and for root."""
        found = [f"HOME={self.directory}", f"ERL_EPMD_PORT={self._mapper_port}"]  # its cookie, and who knows its node
        return " ".join(["env", *found, str(self._server.with_name("rabbitmqctl")), "-q", "-n", self.node, *words])


class PostgreSQL(Service):
    """A PostgreSQL cluster of its own."""

    user = "postgres"
    polite = signal.SIGINT  # "fast": it does not wait for its clients to leave

    def prepare(self) -> None:
        password = self.directory / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        self.run(
            [
                *(binary("initdb", "postgresql"), "-D", f"{self.directory}/data", "-U", "kilonova", "--no-sync"),
                *("--auth", "scram-sha-256", "--pwfile", str(password), "-E", "UTF8", "--locale", "C.UTF-8"),
            ]
        )
        with (self.directory / "data/pg_hba.conf").open("a") as allowed:
            allowed.write("host all all samenet scram-sha-256\n")

    def command(self) -> list[str]:
        settings = {
            "port": self.port,
            "listen_addresses": self.address,
            "unix_socket_directories": "",
            "fsync": "off",
            "deadlock_timeout": "100ms",
            "full_page_writes": "off",
            "max_connections": 300,
            "shared_buffers": "32MB",
            "ssl": "on",
            "ssl_cert_file": f"{self.directory}/server.pem",
            "ssl_key_file": f"{self.directory}/server.key",
        }
        flags = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [binary("postgres", "postgresql"), "-D", f"{self.directory}/data", *flags]

    def answers(self) -> bool:
        if not super().answers():
            return False
        try:
            return self.sql("SELECT 1").strip() == "1"
        except AssertionError:  # still starting up
            return False

    def kill(self) -> None:
        super().kill()
        time.sleep(0.3)  # its backends notice by themselves, and hold shared memory until then

    def sql(self, statement: str) -> str:
        """What psql prints for a statement."""
        tool = [binary("psql", "postgresql-client"), "-h", self.address, "-p", str(self.port), "-U", "kilonova"]
        return self.run([*tool, "-d", "postgres", "-XAtc", statement], {"PGPASSWORD": PASSWORD})

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of a new, empty database; dropped afterwards."""
        name = f"test_{_ports.getrandbits(48):x}"
        self.sql(f"CREATE DATABASE {name}")
        try:
            yield f"postgresql://kilonova:{PASSWORD}@{self.address}:{self.port}/{name}"
        finally:
            self.sql(f"DROP DATABASE {name} WITH (FORCE)")


class MariaDB(Service):
    """A MariaDB server of its own."""

    user = "mysql"

    def prepare(self) -> None:
        self.run(
            [
                *(binary("mariadb-install-db", "mariadb-server"), "--no-defaults", f"--datadir={self.directory}/data"),
                *("--skip-test-db", "--auth-root-authentication-method=normal", "--innodb-flush-method=nosync"),
            ]
        )
        first = self.directory / "first.sql"
        first.write_text(
            f"CREATE USER IF NOT EXISTS kilonova@'%' IDENTIFIED BY '{PASSWORD}';\n"
            "GRANT ALL ON *.* TO kilonova@'%';\nDELETE FROM mysql.global_priv WHERE User IN ('root', '');\n"
        )

    def command(self) -> list[str]:
        at = self.directory
        return [
            *(binary("mariadbd", "mariadb-server"), "--no-defaults", f"--datadir={at}/data", f"--socket={at}/socket"),
            *(
                f"--port={self.port}",
                f"--bind-address={self.address}",
                "--max-connections=500",
                "--skip-name-resolve",
                f"--init-file={at}/first.sql",
            ),
            *("--innodb-flush-log-at-trx-commit=2", "--innodb-flush-method=nosync", "--innodb-buffer-pool-size=64M"),
            *("--innodb-doublewrite=0", "--performance-schema=0", "--skip-log-bin", f"--pid-file={at}/pid"),
            *(f"--ssl-ca={at}/ca.pem", f"--ssl-cert={at}/server.pem", f"--ssl-key={at}/server.key"),
        ]

    def answers(self) -> bool:
        if not super().answers():
            return False
        try:
            return self.sql("SELECT 1").strip() == "1"
        except AssertionError:
            return False

    def sql(self, statement: str) -> str:
        """What the mariadb client prints for a statement."""
        tool = [binary("mariadb", "mariadb-client"), "--no-defaults", "-h", self.address, "-P", str(self.port)]
        return self.run([*tool, "-u", "kilonova", "-BNe", statement], {"MYSQL_PWD": PASSWORD})

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of a new, empty database; dropped afterwards."""
        name = f"test_{_ports.getrandbits(48):x}"
        self.sql(f"CREATE DATABASE {name} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
        try:
            yield f"mysql://kilonova:{PASSWORD}@{self.address}:{self.port}/{name}"
        finally:
            self.sql(f"DROP DATABASE {name}")


class Memcached(Service):
    """A memcached of 16 MB."""

    user = "nobody"

    def command(self) -> list[str]:
        return [binary("memcached", "memcached"), "-l", self.address, "-p", str(self.port), "-m", "16", "-U", "0"]

    def as_user(self, command: list[str]) -> list[str]:
        if os.geteuid() != 0:
            return command
        return ["setpriv", "--reuid", self.user, "--regid", "nogroup", "--clear-groups", *command]

    @property
    def url(self) -> str:
        return f"memcached://{self.address}:{self.port}"
