"""The operator's settings: one TOML file, KILONOVA_SECTION_KEY variables over it, few of them, all with defaults."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from kilonova.base.faults import invalid
from kilonova.base.settings import fill, overlay, read_file
from kilonova.compute.contract.pci import PciSettings
from kilonova.compute.scheduler.rules import SchedulerSettings
from kilonova.compute.settings import ComputeSettings
from kilonova.identity.settings import IdentitySettings
from kilonova.image.settings import ImageSettings
from kilonova.network.settings import NetworkSettings
from kilonova.node.ceph.settings import CephSettings


@dataclass(frozen=True)
class LogSettings:
    """Where and how much is logged."""

    level: str = "INFO"


@dataclass(frozen=True)
class UplinkSettings:
    """The way out for guests: an address of our own on the network of one of this machine's interfaces.

    Without it `--uplink auto` goes through the machine's own connections by slirp4netns: see node/vswitch/way_out.py.
    """

    interface: str = ""
    address: str = ""  # address/length
    gateway: str = ""


@dataclass(frozen=True)
class TlsSettings:
    """Files in PEM: whom this machine's processes trust, and what they show. `kilonova ca` makes them."""

    authority: str = ""  # whose certificates brokers, databases and services must have; "": those the system trusts
    certificate: str = ""  # of this host, for what it listens on
    key: str = ""
    authority_key: str = ""  # where identity-api runs: with it, hosts that join get a certificate


@dataclass(frozen=True)
class ClusterSettings:
    """What the processes of a cluster share: `kilonova service NAME --config FILE`. docs/guide/cluster.md."""

    url: str = ""  # where users reach all APIs, each at its path; "": each at its endpoint
    endpoints: dict[str, str] = field(default_factory=dict)  # mount → where services reach it; else below `url`
    database: str = ""  # postgresql://user:password@host/kilonova_{service}, or mysql://…
    database_connections: int = 8  # for reads, and as many for writes, of each process and database
    brokers: tuple[str, ...] = ()  # amqp://user:password@host/; the first that answers
    broker_admin: str = ""  # https://user:password@host:15671/, RabbitMQ's management API: where hosts get users
    secrets: str = "/etc/kilonova/secrets.json"
    directory: str = "/var/lib/kilonova"  # of this machine: ledgers, images, policy overrides, traces
    user: str = ""  # whom control processes become when root starts them
    admin_port: int = 0  # /healthz, /readyz and /metrics on loopback; 0: none
    leave_seconds: float = 2.0  # how long an API that was told to end serves on, saying 503 when its health is asked
    hypervisor: str = "fake"  # fake | libvirt
    accelerator: str = "auto"  # auto (kvm where a guest boots on it) | kvm | tcg
    network: str = "fake"  # fake | linux
    host: str = ""  # this host's name in the cloud; "": the machine's, up to the first dot
    host_ip: str = "127.0.0.1"  # management: of this host, where console proxies and other hosts reach it
    tunnel_ip: str = ""  # of this host, where tunnels end; "": host_ip
    external_interface: str = ""  # of a network node: its wire to the external network; no address of ours on it
    tls: TlsSettings = field(default_factory=TlsSettings)
    plain: bool = False  # take connections that are not encrypted although they leave this machine
    volumes: str = ""  # where all hosts see the same files of volumes; "": directory/volumes, right for one machine

    def internal_url(self, path: str) -> str:
        """Where services reach `/compute/v2.1`: `endpoints` names a service by its mount and holds its whole URL."""
        _, mount, *rest = path.split("/", 2)
        endpoint = self.endpoints.get(mount, f"{self.url.rstrip('/')}/{mount}")
        if not endpoint.startswith("http"):
            raise invalid(
                f"Where is {mount}? Neither [cluster.endpoints] nor [cluster] url says it.",
                hint=f'[cluster.endpoints]\n  {mount} = "http://HOST:PORT/{mount}"',
            )
        return "/".join([endpoint.rstrip("/"), *rest])


@dataclass(frozen=True)
class CloudSettings:
    """Every section of the file."""

    log: LogSettings = field(default_factory=LogSettings)
    uplink: UplinkSettings = field(default_factory=UplinkSettings)
    identity: IdentitySettings = field(default_factory=IdentitySettings)
    image: ImageSettings = field(default_factory=ImageSettings)
    compute: ComputeSettings = field(default_factory=ComputeSettings)
    pci: PciSettings = field(default_factory=PciSettings)
    scheduler: SchedulerSettings = field(default_factory=SchedulerSettings)
    network: NetworkSettings = field(default_factory=NetworkSettings)
    ceph: CephSettings = field(default_factory=CephSettings)
    cluster: ClusterSettings = field(default_factory=ClusterSettings)


def read_settings(path: str) -> CloudSettings:
    """The settings of a file ("" for none) with the environment laid over it."""
    table = read_file(Path(path)) if path else {}
    return fill(CloudSettings, overlay(CloudSettings, table, os.environ, "KILONOVA"))
