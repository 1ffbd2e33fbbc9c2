"""`kilonova up`: start the cloud on this machine. Idempotent; says what is missing, with the fix; shows progress."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from kilonova.base import memory
from kilonova.base.faults import Fault, conflict, unavailable
from kilonova.cli import machine
from kilonova.cli.claims import Claim, claim, release
from kilonova.cli.environment import base_url, program, write_files
from kilonova.cli.settings import read_settings
from kilonova.cli.state import (
    DEFAULT_PORT,
    Choices,
    State,
    default_directory,
    free_port,
    is_loopback,
    listen_address,
    port_is_free,
    refuse_port_in_use,
)

READY_SECONDS = 600


def run(options: argparse.Namespace) -> int:
    """In the foreground until SIGTERM or Ctrl-C; with --detach until it is up."""
    state = State(options.state)
    with _nothing_left_of_a_refusal(state):
        if options.detach:
            return _detached(state, options)
        with _told_to_parent(options.ready_fd):
            state.make()
            with state.held():
                choices = choose(state, options)
                return _run(state, choices, _teller(options.ready_fd), options.ready_fd)


@contextlib.contextmanager
def _nothing_left_of_a_refusal(state: State) -> Iterator[None]:
    """When `up` is refused before there is a cloud, the directory that was made for it goes again."""
    new = not state.directory.exists()
    try:
        yield
    except Fault:
        if new and not state.exists:
            shutil.rmtree(state.directory, ignore_errors=True)
            release(state.directory)
        raise


@contextlib.contextmanager
def _told_to_parent(ready_fd: int) -> Iterator[None]:
    """The fault that ends this process reaches the `up --detach` that waits for it."""
    try:
        yield
    except Fault as fault:
        if ready_fd >= 0:
            with contextlib.suppress(OSError):
                os.write(ready_fd, b"FAILED " + json.dumps(fault.to_wire()).encode() + b"\n")
        raise


def choose(state: State, options: argparse.Namespace) -> Choices:
    """What this cloud is to be: what it was, what was asked now, and what this machine can do."""
    known = state.choices() if state.exists else None
    hypervisor = machine.choose_hypervisor(options.hypervisor or (known.hypervisor if known else "auto"))
    network = machine.choose_network(options.network or (known.network if known else "auto"), hypervisor)
    if known and known.hypervisor != hypervisor and (state.directory / "hosts").exists():
        raise conflict(
            f"This cloud runs on the {known.hypervisor} hypervisor; it cannot change to {hypervisor}.",
            hint="Use another --state for another cloud, or `kilonova down --purge` first.",
        )
    listen, hosts = _listen(options.listen, known), _hosts(options.hosts, known)
    config = str(options.config.resolve()) if options.config else (known.config if known else "")
    read_settings(config)  # a wrong file is refused before anything is claimed or kept
    had = Claim(known.prefix, known.vni_first, known.public_cidr) if known else None
    mine = claim(state.directory, had)
    choices = Choices(
        prefix=mine.prefix,
        listen=listen,
        admin_port=known.admin_port if known and port_is_free("127.0.0.1", known.admin_port) else 0,
        hosts=hosts,
        hypervisor=hypervisor,
        network=network,
        uplink=options.uplink or (known.uplink if known else "auto"),
        public_cidr=mine.public_cidr,
        vni_first=mine.vni_first,
        config=config,
    )
    choices.admin_port = choices.admin_port or free_port("127.0.0.1", DEFAULT_PORT + 1000)
    state.save(choices)
    return choices


def _listen(asked: str | None, known: Choices | None) -> str:
    if asked or known:
        host, port = listen_address(asked or (known.listen if known else ""))
    else:
        host, port = "127.0.0.1", free_port("127.0.0.1", DEFAULT_PORT)
    refuse_port_in_use(host, port)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _hosts(asked: int | None, known: Choices | None) -> int:
    number = asked if asked is not None else known.hosts if known else 1
    if not 1 <= number <= 200:
        raise conflict(f"--hosts {number}: a machine holds 1 to 200 hosts.")
    if known and number < known.hosts:
        raise conflict(f"This cloud has {known.hosts} hosts; it cannot shrink to {number}.", hint="Add hosts only.")
    return number


def _teller(ready_fd: int) -> Callable[[str], None]:
    began = time.monotonic()

    def told(line: str) -> None:
        text = f"  {time.monotonic() - began:6.1f} s  {line}"
        if ready_fd >= 0:
            with contextlib.suppress(OSError):
                os.write(ready_fd, f"{text}\n".encode())
        else:
            print(text, flush=True)

    return told


def _run(state: State, choices: Choices, told: Callable[[str], None], ready_fd: int) -> int:
    memory.share_one_arena()
    gc.disable()  # what a start loads stays: looking through it again and again for garbage is a fifth of the start
    import uvloop

    uvloop.run(_serve(state, choices, told, ready_fd))
    return 0


async def _serve(state: State, choices: Choices, told: Callable[[str], None], ready_fd: int) -> None:
    from kilonova.cli.compose.embedded import EmbeddedCloud

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    cloud = EmbeddedCloud(state, choices, told)
    loop.add_signal_handler(signal.SIGHUP, cloud.reload)
    try:
        await cloud.start()
        cloud.give_memory_back()
        gc.enable()
        write_files(state, choices, state.secrets())
        told(f"up: {base_url(choices)}")
        if not is_loopback(choices.listen.rpartition(":")[0]):
            told(
                f"NOT ENCRYPTED: whoever listens on the way to {choices.listen} reads passwords and tokens; put a proxy"
            )
            told("               with TLS in front of a loopback address (docs/guide/one-machine.md)")
        if ready_fd >= 0:
            os.write(ready_fd, b"READY\n")
            os.close(ready_fd)
        else:
            print(next_steps(state, choices), flush=True)
        await stop.wait()
    finally:
        await cloud.stop()


def _detached(state: State, options: argparse.Namespace) -> int:
    """Start the same command in a session of its own, and show its progress until it is ready."""
    state.make()
    if (pid := state.running()) is not None:
        print(f"  already up: process {pid}, {base_url(state.choices())}")
        return 0
    readable, writable = os.pipe()
    command = [sys.executable, "-m", "kilonova.cli.main", *_again(options), "--ready-fd", str(writable)]
    with open(state.logs / "process.log", "ab") as log:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[writable], start_new_session=True
        )
    os.close(writable)
    _follow(readable, child, state)
    print(next_steps(state, state.choices()), flush=True)
    return 0


def _again(options: argparse.Namespace) -> list[str]:
    words = ["up", "--state", str(options.state)]
    for name in ("listen", "config", "hosts", "hypervisor", "network", "uplink"):
        if (value := getattr(options, name)) is not None:
            words += [f"--{name}", str(value)]
    return words


def _follow(readable: int, child: subprocess.Popen[bytes], state: State) -> None:
    deadline, gathered = time.monotonic() + READY_SECONDS, b""
    while time.monotonic() < deadline:
        ready, _, _ = select.select([readable], [], [], 1.0)
        if not ready:
            continue
        piece = os.read(readable, 65536)
        if not piece:
            break
        gathered += piece
        *lines, gathered = gathered.split(b"\n")
        for line in lines:
            if line == b"READY":
                return
            if line.startswith(b"FAILED "):
                child.wait()
                raise Fault.from_wire(json.loads(line.removeprefix(b"FAILED ")))
            print(line.decode(), flush=True)
    if child.poll() is None:
        child.terminate()
    raise unavailable("The cloud did not come up.", hint=f"See {state.logs}/process.log and kilonova.log.")


def next_steps(state: State, choices: Choices) -> str:
    """What to type next."""
    where = "" if state.directory == default_directory() else f" --state {state.directory}"
    call = program()
    return f"""
  The cloud is up at {base_url(choices)} (state in {state.directory}).

    eval "$({call} env{where} --member)"       then any openstack command, as the member of project demo
    export OS_CLIENT_CONFIG_FILE={state.clouds_yaml} OS_CLOUD=kilonova-admin    as the admin
    {call} first-server{where}                 boot a server, ssh in
    {call} status{where}
    {call} down{where}
"""
