"""`kilonova`: every command in one table; each is a function in a module of its own, imported when it is used."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path

from kilonova import __version__
from kilonova.base.faults import Fault
from kilonova.cli.state import default_directory

CLUSTER_CONFIG = Path("/etc/kilonova/cluster.toml")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kilonova", description="A whole infrastructure cloud, in one command.")
    parser.add_argument("--version", action="version", version=f"kilonova {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, help_: str, module: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=help_, description=help_)
        made.set_defaults(module=module)
        made.add_argument("--state", type=Path, default=None, help=f"state directory (default {default_directory()})")
        return made

    up = command("up", "start the cloud on this machine, or bring it up to date", "up")
    _up_options(up)
    down = command("down", "shut guests down cleanly and stop the cloud; `up` brings both back", "down")
    down.add_argument("--purge", action="store_true", help="leave nothing at all: guests, networks, disks, databases")
    command("restart", "restart the control plane; guests and traffic go on", "restart")
    status = command("status", "what runs, and how it is", "status")
    status.add_argument("--json", action="store_true", help="for programs")
    status.add_argument("--config", type=Path, default=None, help="of a cluster: its settings file")
    env = command("env", "print shell lines that point the openstack client here", "environment")
    env.add_argument("--member", action="store_true", help="as the member of the default project, not the admin")
    command("first-server", "boot a first server the way a user would, and show how to ssh in", "first_server")
    trace = command("trace", "draw what really happened to a server, volume or request", "trace")
    trace.add_argument("id", help="server, volume, image or port id, request id (req-…) or trace id")
    trace.add_argument("--format", choices=("text", "mermaid", "svg", "png", "wsd"), default="text")
    trace.add_argument("--output", "-o", type=Path, help="write to this file instead of the terminal")
    trace.add_argument("--list", action="store_true", help="list the traces about it, newest first")
    trace.add_argument("--nth", type=int, default=0, help="draw this one of the list (default: its creation)")
    trace.add_argument("--config", type=Path, default=None, help="of a cluster: its settings file")
    trace.add_argument("--detail", action="store_true", help="also database reads and repeated calls")
    _scheduler_options(
        command("explain", "why the scheduler sent a server where it did, or nowhere", "explain"),
        command("could-boot", "would so many servers fit, where, and if not what stops them", "could_boot"),
    )
    draw = command("draw", "render a hand-written sequence diagram", "draw")
    draw.add_argument("file", type=Path, help="WebSequenceDiagrams source")
    draw.add_argument("--format", choices=("text", "mermaid", "svg", "png", "wsd"), default="svg")
    draw.add_argument("--output", "-o", type=Path, help="write to this file (default: beside the source)")
    doctor = command("doctor", "check machine, processes and books; say what is wrong and how to mend it", "doctor")
    doctor.add_argument("--fix", action="store_true", help="mend what can be mended")
    doctor.add_argument("--config", type=Path, default=None, help="of a cluster: its settings file")
    _service_options(command("service", "run one service of a cluster in this process", "service"))
    _host_options(command("host", "a host of a cluster", "host"))
    _ca_options(command("ca", "the cluster's certificate authority", "ca"))
    database = command("db", "the databases' schema", "database")
    database.add_argument("what", choices=("upgrade", "check"))
    database.add_argument("--by-up", action="store_true", help=argparse.SUPPRESS)  # which holds the cloud
    database.add_argument("--config", type=Path, default=None, help="of a cluster: its settings file")
    identity = command("identity", "the keys that sign tokens", "identity")
    identity.add_argument("what", choices=("rotate-keys",))
    identity.add_argument("--config", type=Path, default=None, help="of a cluster: its settings file")
    _image_options(command("image", "well-known cloud images: list them, bring one into this cloud", "image"))
    guest = command("guest", "the tiny cloud guest", "guest")
    guest.add_argument("what", choices=("build",))
    guest.add_argument("--output", "-o", type=Path, help="directory for guest.qcow2 (default: the state directory)")
    return parser


def _scheduler_options(explain: argparse.ArgumentParser, could_boot: argparse.ArgumentParser) -> None:
    explain.add_argument("id", help="server (id, or a name that only one has) or request id (req-…)")
    explain.add_argument("--all", action="store_true", help="every decision about it, not only the last")
    could_boot.add_argument("count", type=int, help="how many servers")
    could_boot.add_argument("flavor", help="name or id")
    could_boot.add_argument("--zone", default="", help="availability zone")
    could_boot.add_argument("--on", default="", metavar="HOST", help="on this host only")
    could_boot.add_argument("--image", default="", help="name or id: its properties count")
    could_boot.add_argument("--hint", action="append", default=[], metavar="NAME=VALUE", help="scheduler hint")
    for one in (explain, could_boot):
        one.add_argument("--json", action="store_true", help="for programs")
        one.add_argument("--config", type=Path, default=None, help="of a cluster: its settings file")


def _image_options(image: argparse.ArgumentParser) -> None:
    image.add_argument("what", choices=("sources", "fetch"))
    image.add_argument("name", nargs="?", default="", help="of a source")
    image.add_argument("--private", action="store_true", help="only the admin's project sees it")
    image.add_argument("--again", action="store_true", help="also when an image of that name is there")
    image.add_argument("--list", type=Path, default=None, help="TOML file of sources (STATE/image-sources.toml)")


def _service_options(service: argparse.ArgumentParser) -> None:
    service.add_argument("name", help="identity-api, compute-api, conductor, compute-agent, …, or a group: controller")
    service.add_argument("--config", type=Path, default=CLUSTER_CONFIG, help=f"settings file ({CLUSTER_CONFIG})")
    service.add_argument("--host", default="", help="this host's name (agents)")
    service.add_argument("--listen", default="", help="HOST:PORT (APIs)")
    service.add_argument("--join", default="", metavar="INVITATION", help="first join the cluster: agents, once")


def _host_options(host: argparse.ArgumentParser) -> None:
    help_ = "invite: print the line that joins it; secrets: the same as files; expel; purge: nothing is left here"
    host.add_argument("what", choices=("invite", "secrets", "expel", "purge"), help=help_)
    host.add_argument("name", nargs="?", default="", help="its name (purge: default this machine's)")
    host.add_argument("--output", "-o", type=Path, help="secrets: the directory to write to, for the host (0600)")
    host.add_argument("--role", choices=("compute", "network", "volume"), action="append", help="what it will run")
    host.add_argument("--config", type=Path, default=CLUSTER_CONFIG, help=f"settings file ({CLUSTER_CONFIG})")


def _ca_options(ca: argparse.ArgumentParser) -> None:
    ca.add_argument("what", choices=("init", "issue", "renew", "show"))
    ca.add_argument("name", nargs="?", default="", help="the host's name (init: the authority's)")
    help_ = "issue: another name or IP address that it is reached by; may be given several times"
    ca.add_argument("--address", action="append", default=[], help=help_)
    ca.add_argument("--days", type=int, default=365, help="issue, renew: how long it is good")
    ca.add_argument("--directory", type=Path, default=Path("/etc/kilonova/ca"), help="its files (/etc/kilonova/ca)")


def _up_options(up: argparse.ArgumentParser) -> None:
    up.add_argument("--listen", default=None, help="HOST:PORT of the APIs (default 127.0.0.1:7774, or the next free)")
    up.add_argument("--config", type=Path, default=None, help="settings file (TOML)")
    up.add_argument("--hosts", type=int, default=None, help="how many compute hosts to make on this machine")
    up.add_argument("--hypervisor", choices=("auto", "libvirt", "fake"), default=None)
    up.add_argument("--network", choices=("auto", "linux", "fake"), default=None)
    up.add_argument("--uplink", default=None, help="auto, none, or an interface: how guests reach the outside")
    up.add_argument("--detach", action="store_true", help="return once it is up")
    up.add_argument("--ready-fd", type=int, default=-1, help=argparse.SUPPRESS)


def main(argv: list[str] | None = None) -> int:
    """The exit code: 0, or 1 with the fault on stderr (2: bad usage)."""
    options = _parser().parse_args(argv)
    options.state = options.state or default_directory()
    try:
        return int(importlib.import_module(f"kilonova.cli.{options.module}").run(options) or 0)
    except Fault as fault:
        print(f"kilonova {options.command}: {fault.message}", file=sys.stderr)
        if fault.hint:
            print(f"  {fault.hint}", file=sys.stderr)
        if fault.inside:
            print(f"  ({fault.inside})", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `kilonova trace … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())
