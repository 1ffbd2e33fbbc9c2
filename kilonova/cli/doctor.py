"""`kilonova doctor`: is the machine fit, does the cloud run, do its books balance; with --fix, mend what is safe."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from kilonova.base.clock import SystemClock
from kilonova.base.faults import Fault
from kilonova.block_storage.schema import journal as volume_journal
from kilonova.cli import machine
from kilonova.cli.admin import Admin
from kilonova.cli.books import Books, Trouble
from kilonova.cli.ca import expiring
from kilonova.cli.compose.cluster_ground import ClusterGround
from kilonova.cli.encryption import plain_connections
from kilonova.cli.settings import CloudSettings, ClusterSettings, read_settings
from kilonova.cli.state import State, is_loopback, secrets_of
from kilonova.cli.status import ask_admin
from kilonova.compute.schema import journal as server_journal
from kilonova.identity.contract import HOST_USER_PREFIX, host_user
from kilonova.image.schema import journal as image_journal
from kilonova.node.guest.tools import missing_tools

JOURNALS = {"compute": server_journal, "block_storage": volume_journal, "image": image_journal}


def run(options: argparse.Namespace) -> int:
    """0 when all is well, 1 when something is wrong that is not mended."""
    if options.config:
        return asyncio.run(_cluster(options))
    wrong = _machine()
    state = State(options.state)
    if not state.exists:
        print(f"cloud    none in {state.directory} (start one with `kilonova up`)")
        return 1 if wrong else 0
    wrong += _cloud(state)
    if state.running() is not None:
        wrong += asyncio.run(_books(Books(Admin.of(options)), fix=options.fix))
    print("all is well" if not wrong else f"{wrong} thing(s) to look at")
    return 1 if wrong else 0


def _machine() -> int:
    needs = {need.what: need for need in (*machine.hypervisor_needs(), *machine.network_needs())}
    lacking = [need for need in needs.values() if not need.there]
    for need in lacking:
        print(f"machine  {need.what} is missing: {need.fix}")
    for tool, package in missing_tools():
        print(f"machine  {tool} is missing, so the guest cannot be built: apt-get install {package}")
    if not lacking:
        print("machine  fit for real guests and networks")
    return len(lacking)


def _cloud(state: State) -> int:
    pid = state.running()
    if pid is None:
        print("cloud    stopped: start it with `kilonova up`")
        return 0
    seen = ask_admin(state.choices().admin_port, "/status")
    if seen is None:
        print(f"cloud    process {pid} does not answer; see {state.logs}/kilonova.log")
        return 1
    for problem in seen["problems"]:
        print(f"cloud    {problem}")
    if seen["stuck"]:
        print(f"cloud    {seen['stuck']} operation(s) are stuck: an undo keeps failing; they are tried again")
    listen = state.choices().listen
    if open_ := not is_loopback(listen.rpartition(":")[0]):
        print(f"tls      {listen} is not encrypted, and other machines reach it: put a proxy with TLS there")
    print(f"cloud    process {pid}, {seen['memory_mb']} MB, {seen['unfinished']} operations under way")
    return len(seen["problems"]) + (1 if seen["stuck"] else 0) + open_


async def _cluster(options: argparse.Namespace) -> int:
    """A cluster as its own APIs and journals tell it: who reports, what is stuck, and whether the books balance."""
    settings = read_settings(str(options.config))
    wrong = _encryption(settings.cluster)
    wrong += await _operations(settings) if settings.cluster.database else 0
    wrong += await _books(Books(Admin.of(options)), fix=options.fix)
    await _trusted_hosts(Admin.of(options))
    print("all is well" if not wrong else f"{wrong} thing(s) to look at")
    return 1 if wrong else 0


async def _trusted_hosts(admin: Admin) -> None:
    """Hosts that hold the whole cluster's secrets: right where everything is one machine, told everywhere else."""
    try:
        services = (await admin.ask("GET", "/compute/v2.1/os-services?binary=nova-compute"))["services"]
        users = (await admin.ask("GET", f"/identity/v3/users?name__startswith={HOST_USER_PREFIX}"))["users"]
    except Fault:
        return  # who does not answer was told about before
    finally:
        await admin.close()
    joined = {user["name"] for user in users}
    for host in sorted({one["host"] for one in services}):
        if host_user(host) not in joined:
            print(f"hosts    {host} never joined and holds the whole cluster's secrets: kilonova host invite {host}")


def _encryption(cluster: ClusterSettings) -> int:
    """Certificates that end soon, and connections that anybody on the way could read."""
    wrong = [f"not encrypted: {one}" for one in plain_connections(cluster)]
    now = SystemClock().now()
    files = [file for file in (cluster.tls.authority, cluster.tls.certificate) if file]
    wrong += [said for file in files if (said := expiring(Path(file), now))]
    for line in wrong:
        print(f"tls      {line}")
    if not wrong:
        print("tls      nothing leaves a machine in clear; certificates are good for another month")
    return len(wrong)


async def _operations(settings: CloudSettings) -> int:
    """1 when operations are stuck, of whatever service."""
    ground = ClusterGround("doctor", "doctor", settings, secrets_of(Path(settings.cluster.secrets)))
    unfinished = stuck = 0
    try:
        for service, journal in JOURNALS.items():
            db = await ground.database(service, f"kilonova.{service}.migrations")
            under_way = await db.read(journal.under_way)
            unfinished, stuck = unfinished + under_way[0], stuck + under_way[1]
    finally:
        await ground.close()
    print(f"cloud    {unfinished} operations under way")
    if stuck:
        print(f"cloud    {stuck} operation(s) are stuck: an undo keeps failing; they are tried again")
    return 1 if stuck else 0


async def _books(books: Books, *, fix: bool) -> int:
    try:
        troubles = [*await books.silent(), *await books.troubles()]
        if not troubles:
            print("books    balance: claims, ports and attachments all have their server")
        left = 0
        for trouble in troubles:
            left += await _deal_with(trouble, fix=fix)
        return left
    finally:
        await books.close()


async def _deal_with(trouble: Trouble, *, fix: bool) -> int:
    if trouble.mend is None or not fix:
        print(f"books    {trouble.what}" + ("" if trouble.mend is None else "  (--fix mends it)"))
        return 1
    try:
        await trouble.mend()
    except Fault as fault:
        print(f"books    {trouble.what}; not mended: {fault.message}")
        return 1
    print(f"books    mended: {trouble.what}")
    return 0
