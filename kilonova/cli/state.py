"""The state directory: everything a cloud on this machine keeps, and who runs it now."""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import os
import re
import secrets as randomness
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec

from kilonova.base.faults import conflict, invalid
from kilonova.saga.seal import Sealer

DEFAULT_PORT = 7774
HOST_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}")


class Secrets(msgspec.Struct, omit_defaults=True):
    """What `up` generates at first start; 0600. A cluster's host is given a file of its own, in which little is set."""

    deployment_keys: list[str] = []
    admin_password: str = ""
    member_password: str = ""
    metadata_secret: str = ""
    bus_secret: str = ""  # every key on the bus follows from it
    service_passwords: dict[str, str] = {}
    bus_keys: dict[str, str] = {}  # a host's own: sender or type → key in hex

    @property
    def agent_user(self) -> str:
        """The service user of this machine's agents: a host's own, or the one that a whole file gives them all."""
        return "agent" if "agent" in self.service_passwords else next(iter(self.service_passwords), "agent")


class Choices(msgspec.Struct):
    """What `up` chose or was told; a later `up` keeps it unless told otherwise."""

    prefix: str
    listen: str
    admin_port: int
    hosts: int = 1
    hypervisor: str = "auto"
    network: str = "auto"
    uplink: str = "auto"
    public_cidr: str = ""
    vni_first: int = 1
    config: str = ""


SERVICE_USERS = ("nova", "neutron", "glance", "cinder", "placement", "agent")


def default_directory() -> Path:
    """KILONOVA_STATE when it is set; else /var/lib/kilonova for root, ~/.local/share/kilonova otherwise."""
    if chosen := os.environ.get("KILONOVA_STATE"):
        return Path(chosen)
    if os.geteuid() == 0:
        return Path("/var/lib/kilonova")
    return Path.home() / ".local/share/kilonova"


class State:
    """Paths and files of one cloud."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.expanduser().resolve()
        self.databases = self.directory / "db"
        self.run = self.directory / "run"
        self.logs = self.directory / "log"
        self.pid_file = self.run / "kilonova.pid"
        self.choices_file = self.directory / "cloud.json"
        self.secrets_file = self.directory / "secrets.json"
        self.openrc = self.directory / "openrc"
        self.clouds_yaml = self.directory / "clouds.yaml"
        self.policies = self.directory / "policy"

    @property
    def exists(self) -> bool:
        """Whether a cloud was ever started here."""
        return self.choices_file.exists()

    def need(self) -> Choices:
        """Its choices; a Fault that says how to start one when there is none."""
        if not self.exists:
            raise conflict(f"There is no cloud in {self.directory}.", hint="Start one with `kilonova up`.")
        return self.choices()

    def make(self) -> None:
        """The directories, closed to others (QEMU's user may pass through to its files)."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            for path in (self.databases, self.run, self.logs, self.policies):
                path.mkdir(exist_ok=True)
                path.chmod(0o700)
            self.directory.chmod(0o711)
        except OSError as error:
            raise conflict(
                f"The state directory {self.directory} cannot be made: {error.strerror}.",
                hint="Choose another with --state, or run as root.",
            ) from error

    def secrets(self) -> Secrets:
        """The cloud's secrets, generated at first use."""
        return secrets_of(self.secrets_file, make=True)

    def choices(self) -> Choices:
        """What was chosen."""
        return msgspec.json.decode(self.choices_file.read_bytes(), type=Choices)

    def save(self, choices: Choices) -> None:
        """Keep the choices."""
        write_private(self.choices_file, msgspec.json.format(msgspec.json.encode(choices)))

    def database(self, service: str) -> Path:
        """The SQLite file of a service."""
        return self.databases / f"{service}.sqlite"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the cloud: two processes never run the same one. The lock dies with the process."""
        handle = os.open(self.pid_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise conflict(
                f"This cloud already runs (process {self.running()}).",
                hint="`kilonova status` shows it; `kilonova restart` restarts it.",
            ) from None
        try:
            os.pwrite(handle, f"{os.getpid():<10}".encode(), 0)  # never empty: others read it while it is held
            yield
        finally:
            os.close(handle)

    def running(self) -> int | None:
        """The process that holds the cloud, if any."""
        try:
            handle = os.open(self.pid_file, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
        except BlockingIOError:
            text = os.read(handle, 32).decode().strip()
            return int(text) if text.isdigit() else None
        finally:
            os.close(handle)


def secrets_of(path: Path, *, make: bool = False) -> Secrets:
    """The secrets of a file that only its owner reads; generated when there is none and `make` allows it."""
    try:
        data = path.read_bytes()
    except OSError as error:
        if not make or not isinstance(error, FileNotFoundError):
            hint = "`kilonova db upgrade --config FILE` makes it; the cluster's other machines get a copy."
            raise conflict(f"The secrets file {path} cannot be read: {error.strerror}.", hint=hint) from None
    else:
        if path.stat().st_mode & 0o077:
            raise conflict(f"Others may read the secrets file {path}.", hint=f"chmod 600 {path}")
        return msgspec.json.decode(data, type=Secrets)
    made = Secrets(
        deployment_keys=[Sealer.new_key()],
        admin_password=randomness.token_urlsafe(15),
        member_password=randomness.token_urlsafe(15),
        metadata_secret=randomness.token_urlsafe(32),
        bus_secret=randomness.token_urlsafe(32),
        service_passwords={name: randomness.token_urlsafe(32) for name in SERVICE_USERS},
    )
    write_private(path, msgspec.json.format(msgspec.json.encode(made)))
    return made


def write_private(path: Path, data: bytes) -> None:
    """Replace a file whole, readable by its owner only."""
    new = path.with_name(f"{path.name}.new")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)


def listen_address(text: str) -> tuple[str, int]:
    """HOST:PORT, [v6]:PORT or PORT."""
    host, colon, port = text.rpartition(":")
    if not port.isdigit() or not 0 < int(port) < 65536 or (colon and not host):
        raise invalid(f"--listen {text!r} is not HOST:PORT.", hint="For example --listen 127.0.0.1:7774.")
    return host.strip("[]") or "127.0.0.1", int(port)


def is_loopback(host: str) -> bool:
    """Whether what goes to this host name or address stays in the machine. A name is trusted only when it says so."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host in ("localhost", "")


def port_is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def refuse_port_in_use(host: str, port: int) -> None:
    """CONFLICT, with what to do, when another program listens there."""
    if not port_is_free(host, port):
        raise conflict(
            f"Port {port} on {host} is in use by another program.",
            hint=f"Stop it (`ss -ltnp 'sport = :{port}'` shows it), or choose another with --listen.",
        )


def free_port(host: str, first: int) -> int:
    """The first free port from `first` on."""
    for port in range(first, min(first + 500, 65536)):
        if port_is_free(host, port):
            return port
    raise conflict(f"No free port from {first} to {first + 499} on {host}.", hint="Choose one with --listen.")
