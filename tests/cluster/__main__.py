"""`make cluster` and `make cluster-stop`: a cluster of several machines on this one, until it is taken down.

`up` starts a keeper in the background and returns when the cluster serves; `down` tells the keeper to take it away.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from kilonova.cli.state import write_private
from tests.cluster.machines import ROOT, Machines, Shape, machines
from tests.real import cloud_rig

HOME = Path("/run/kilonova-cluster")
PID, LOG, RC = HOME / "pid", HOME / "log", HOME / "openrc"


def running() -> int:
    """The keeper's process id, or 0."""
    try:
        pid = int(PID.read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return 0
    return pid if b"tests.cluster" in command else 0


def up(options: argparse.Namespace) -> int:
    """Start the keeper and show what it says until the cluster serves."""
    if os.geteuid() != 0:
        sys.exit("The machines are network namespaces: this needs root.")
    if pid := running():
        sys.exit(f"It runs already (process {pid}); `make cluster-stop` takes it down.")
    HOME.mkdir(mode=0o700, exist_ok=True)
    words = ["keep", "--db", options.db, "--hosts", str(options.hosts), "--copies", str(options.copies)]
    words += ["--fake"] if options.fake else []
    with LOG.open("wb") as log:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "tests.cluster", *words], cwd=ROOT, stdout=log, stderr=log, start_new_session=True
        )
    PID.write_text(str(keeper.pid))
    shown = 0
    while True:
        ended, text = keeper.poll() is not None, LOG.read_text(errors="replace")
        print(text[shown:], end="", flush=True)
        shown = len(text)
        if ended:
            return 1
        if "  stop " in text:
            return 0
        time.sleep(0.2)


def keep(options: argparse.Namespace) -> int:
    """Hold the cluster until SIGTERM."""
    began, leave = time.monotonic(), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: leave.set())

    def told(line: str) -> None:
        print(f"  {time.monotonic() - began:6.1f} s  {line}", flush=True)

    real = not options.fake and not cloud_rig.missing()
    with machines(Shape(real=real, hosts=options.hosts, copies=options.copies, database=options.db), told) as made:
        image, kind = guest(made.directory, real=real)
        made.furnish(image, kind)
        told("flavor tiny, image cirros and network public are there")
        write_private(RC, openrc(made).encode())
        print(how_to(made, real=real), flush=True)
        leave.wait()
    return 0


def guest(directory: Path, *, real: bool) -> tuple[bytes, str]:
    """An image: a tiny guest that boots, or for fake hosts a blank."""
    if not real:
        return bytes(1 << 20), "raw"
    from kilonova.cli.guest import cache_directory
    from kilonova.node.guest.build import build_guest

    return build_guest(directory / "guest", cache_directory()).disk.read_bytes(), "qcow2"


def openrc(made: Machines) -> str:
    login = made.login("demo") | {"identity_api_version": "3"}
    return "unset OS_CLOUD\n" + "".join(f"export OS_{name.upper()}='{value}'\n" for name, value in login.items())


def how_to(made: Machines, *, real: bool) -> str:
    controller = made.land.controller
    return f"""
  {len(made.running)} processes on {len(made.land.nodes)} machines; guests and networks are {"real" if real else "fake"}
  client   source {RC}; openstack server list            (the member; admin's password is in secrets.json)
  inside   ip netns exec {controller.namespace} bash         and {made.land.prefix}-net1, -node1, …, -street (outside)
  logs     {made.directory}/*.log
  queues   {made.broker.control("list_queues")}
  stop     make cluster-stop
"""


def down(_options: argparse.Namespace) -> int:
    """Take it away; returns when nothing is left."""
    pid = running()
    if not pid:
        print("No cluster of `make cluster` runs.")
        return 0
    os.kill(pid, signal.SIGTERM)
    while running():
        time.sleep(0.2)
    for file in (PID, LOG, RC):
        file.unlink(missing_ok=True)
    HOME.rmdir()
    print("The cluster is gone.")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster")
    parser.add_argument("what", choices=("up", "keep", "down"))
    parser.add_argument("--db", choices=("postgresql", "mariadb"), default="postgresql")
    parser.add_argument("--hosts", type=int, default=3)
    parser.add_argument("--copies", type=int, default=2)
    parser.add_argument("--fake", action="store_true", help="guests and networks in memory")
    options = parser.parse_args()
    return {"up": up, "keep": keep, "down": down}[options.what](options)


if __name__ == "__main__":
    sys.exit(main())
