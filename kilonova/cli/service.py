"""`kilonova service NAME --config FILE`: one process of a cluster, until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import pwd
import signal
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kilonova.base import memory
from kilonova.base.faults import Fault, conflict, invalid
from kilonova.cli import serve
from kilonova.cli.admin_port import AdminPort, Describe, Problems
from kilonova.cli.compose.cluster import parts_of, start
from kilonova.cli.compose.cluster_ground import ClusterGround
from kilonova.cli.encryption import encryption_of, listens_encrypted, refuse_plain
from kilonova.cli.settings import read_settings
from kilonova.cli.state import HOST_NAME, State, listen_address, secrets_of
from kilonova.cli.supervisor import Supervisor
from kilonova.http.app import Mounts
from kilonova.trace.logs import configure_logging

log = logging.getLogger(__name__)
REQUESTS_SECONDS = 30  # what a leaving API gives its requests under way


def run(options: argparse.Namespace) -> int:
    """Root reads the settings and secrets; then a control process becomes `[cluster] user`, and an agent stays root."""
    import uvloop

    parts = parts_of(options.name)
    if options.join:
        from kilonova.cli import join

        join.run(options.join, options.name, options.config)
    settings = read_settings(str(options.config))
    refuse_plain(settings.cluster)
    secrets = secrets_of(Path(settings.cluster.secrets))
    encryption = encryption_of(settings.cluster, signs=any(part.signs for part in parts))
    if not secrets.deployment_keys and not all(part.sender for part in parts):
        raise invalid(
            f"{settings.cluster.secrets} holds the secrets of one host, and {options.name} is not an agent.",
            hint="Control processes need the cluster's whole secrets file.",
        )
    host = options.host or settings.cluster.host or socket.gethostname().partition(".")[0]
    if not HOST_NAME.fullmatch(host):
        raise invalid(f"--host {host!r} is not a host name.", hint="Letters, digits and dashes; no domain.")
    make_directory(Path(settings.cluster.directory), settings.cluster.user)
    if settings.cluster.user and not any(part.sender for part in parts):
        become(settings.cluster.user)
    memory.share_one_arena()
    uvloop.run(_serve(options, ClusterGround(options.name, host, settings, secrets, encryption)))
    return 0


def make_directory(directory: Path, user: str) -> None:
    """The state directory, of the control processes' user: whichever process of this host comes first makes it."""
    state = State(directory)
    state.make()
    if user and os.geteuid() == 0:
        account = _account(user)
        for path in (state.directory, state.databases, state.run, state.logs, state.policies):
            os.chown(path, account.pw_uid, account.pw_gid)


def _account(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(user)
    except KeyError:
        raise conflict(f"There is no user {user!r} on this machine.", hint="Make it, or mend [cluster] user.") from None


def become(user: str) -> None:
    """Give root up for good; without root there is nothing to give up."""
    if os.geteuid() != 0:
        return
    account = _account(user)
    os.initgroups(user, account.pw_gid)
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
    os.environ["HOME"] = account.pw_dir  # libraries look for their files there, and must not try root's


async def _serve(options: argparse.Namespace, ground: ClusterGround) -> None:
    configure_logging(ground.settings.log.level)
    stop, supervisor = asyncio.Event(), Supervisor()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, _reload, ground, str(options.config))
    try:
        await start(ground)
        await _listen(ground, options.listen)
        ground.world.spawn(serve.give_memory_back(ground.world), "memory")
        print(f"kilonova service {options.name}: ready on {ground.host}", flush=True)
        supervisor.ready()
        await stop.wait()
        supervisor.leaving()
        await _leave(ground)
    finally:
        await ground.close()


async def _listen(ground: ClusterGround, asked: str) -> None:
    """The admin port, and the APIs' port when the process has any API: that one closes first."""
    listeners: list[AdminPort | serve.Listener] = []
    if ground.cluster.admin_port:
        problems = _problems(ground)
        listeners.append(AdminPort(ground.cluster.admin_port, _describe(ground, problems), problems))
    if ground.mounts:
        (host, port), url = _address(ground, asked)
        tls = ground.tls.server if listens_encrypted(ground.cluster, host, url, ground.tls) else None
        app = serve.Healthcheck(Mounts(ground.mounts), ground.problems, ground.world.clock)
        place, screens = (host, port), "/console" in ground.mounts
        listeners.append(serve.Listener(app, place, tls, leave_seconds=REQUESTS_SECONDS, websockets=screens))
    for listener in listeners:
        await listener.start()
        ground.closing.insert(0, listener.close)


async def _leave(ground: ClusterGround) -> None:
    """An API says that it leaves when its health is asked, and serves on until balancers have asked and know."""
    ground.leaving = True
    if ground.mounts:
        await ground.world.clock.sleep(ground.cluster.leave_seconds)


def _address(ground: ClusterGround, asked: str) -> tuple[tuple[str, int], str]:
    """What --listen says; else where the endpoint of its first API points, and that endpoint."""
    if asked:
        return listen_address(asked), ""
    mount = next(iter(ground.mounts)) or "/metadata"
    url = ground.internal_url(mount)
    parts = urlsplit(url)
    return (parts.hostname or "127.0.0.1", parts.port or (443 if parts.scheme == "https" else 80)), url


def _problems(ground: ClusterGround) -> Problems:
    """What operators should look at: what keeps balancers away, and a process that is too busy."""
    lag = serve.LoopLag(ground.world)

    async def problems() -> list[str]:
        return [*await ground.problems(), *lag.problems()]

    return problems


def _describe(ground: ClusterGround, problems_of: Problems) -> Describe:
    async def describe() -> dict[str, Any]:
        problems = await problems_of()
        return {
            "service": ground.name,
            "host": ground.host,
            "ready": not problems,
            "problems": problems,
            "memory_mb": serve.memory_mb(),
        }

    return describe


def _reload(ground: ClusterGround, config: str) -> None:
    """SIGHUP: policy, log level and certificates."""
    try:
        configure_logging(read_settings(config).log.level)
        ground.tls.reload()
        for warning in ground.reload_policies():
            log.warning("policy: %s", warning)
        log.info("policy, log level and certificates reloaded; a change to any other setting needs a restart")
    except (Fault, OSError) as error:  # the settings may be root's, and we are not root any more
        log.error("nothing was reloaded: %r", error)
