"""What a host gets when it joins: keys and a user on the bus, a service user, the settings that all hosts share.

The same for an invited host, which asks identity's API, and for one whose files an operator copies.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import msgspec

from kilonova.base.faults import invalid
from kilonova.bus.broker_admin import BrokerAdmin
from kilonova.bus.rights import rights_of
from kilonova.bus.signing import agent_keys
from kilonova.cli.compose.cluster_ground import ClusterGround
from kilonova.cli.settings import ClusterSettings
from kilonova.cli.state import Secrets
from kilonova.identity.contract import host_user
from kilonova.pki.authority import certify_host, requested_key

SENDERS = {
    "compute": ("compute.{host}", "l2_agent.{host}"),
    "network": ("l2_agent.{host}", "l3_agent.{host}", "dhcp_agent.{host}", "metadata_agent.{host}"),
    "volume": ("cinder-volume.{host}@files",),
}
# Of [cluster]: what is true for every host. The rest is this machine's own, or the control plane's alone.
SHARED = ("url", "endpoints", "hypervisor", "network", "accelerator", "volumes")


class Kept(msgspec.Struct):
    """What a host keeps: `secrets` and `settings` become files of it."""

    secrets: Secrets
    settings: dict[str, Any]
    authority: str = ""  # certificates in PEM
    certificate: str = ""


def senders_of(host: str, roles: Sequence[str]) -> list[str]:
    """Who the host's agents are on the bus."""
    return sorted({sender.format(host=host) for role in roles for sender in SENDERS[role]})


class Admission:
    """Implements identity's `HostAdmission` for a cluster."""

    def __init__(self, ground: ClusterGround) -> None:
        self._ground = ground
        self.cluster = ground.cluster

    async def admit(self, host: str, roles: Sequence[str], password: str, certificate_request: str) -> dict[str, Any]:
        whole, cluster, senders = self._ground.secrets, self._ground.cluster, senders_of(host, roles)
        broker_password = self._ground.world.ids.secret()
        certificate = self._certify(host, certificate_request)
        await self._user_on_the_broker(host, senders, broker_password)
        keys = agent_keys(whole.bus_secret.encode(), *senders)
        secrets = Secrets(
            metadata_secret=whole.metadata_secret if "network" in roles else "",
            service_passwords={host_user(host): password},
            bus_keys={sender: key.hex() for sender, key in keys.items()},
        )
        brokers = [as_user(url, host_user(host), broker_password) for url in cluster.brokers]
        settings = shared_settings(cluster) | {"host": host, "brokers": brokers}
        kept: dict[str, Any] = msgspec.to_builtins(Kept(secrets, {"cluster": settings}, self.authority(), certificate))
        return kept

    async def expel(self, host: str) -> None:
        """The host has no user on the broker any more."""
        admin = self.broker_admin()
        try:
            await admin.delete_user(host_user(host))
        finally:
            await admin.close()

    def authority(self) -> str:
        """The certificate of whom this cluster's parts trust, PEM; "" when they trust whom the system trusts."""
        file = self.cluster.tls.authority
        return Path(file).read_text() if file else ""

    def _certify(self, host: str, request: str) -> str:
        """A certificate in the host's name alone: what other names a request asks for does not count."""
        authority = self._ground.encryption.authority
        if authority is None or not request:
            return ""
        return certify_host(authority, requested_key(request), [host], self._ground.world.clock.now())

    def broker_admin(self) -> BrokerAdmin:
        """The broker's administrator. INVALID when the settings name none."""
        cluster = self._ground.cluster
        if not cluster.broker_admin or not cluster.brokers:
            raise invalid(
                "[cluster] broker_admin is not set, so no host can be given a user of its own on the broker.",
                hint='rabbitmq-plugins enable rabbitmq_management; broker_admin = "https://USER:PASSWORD@HOST:15671/".',
            )
        return BrokerAdmin(cluster.broker_admin, vhost_of(cluster.brokers[0]), verify=self._ground.tls.client)

    async def _user_on_the_broker(self, host: str, senders: list[str], password: str) -> None:
        admin = self.broker_admin()
        try:
            await admin.prepare(senders)
            await admin.set_user(host_user(host), password, rights_of(senders))
        finally:
            await admin.close()


def shared_settings(cluster: ClusterSettings) -> dict[str, Any]:
    """Those of [cluster] that every host has alike, where they are not the defaults."""
    plain = {field.name: field.default for field in dataclasses.fields(ClusterSettings)}
    return {name: value for name in SHARED if (value := getattr(cluster, name)) not in (plain[name], {})}


def vhost_of(url: str) -> str:
    """The virtual host of a broker's URL, `/` when it names none."""
    return unquote(urlsplit(url).path.removeprefix("/")) or "/"


def as_user(url: str, user: str, password: str) -> str:
    """The broker's URL for somebody else."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{quote(user, safe='')}:{quote(password, safe='')}@{place}"))
