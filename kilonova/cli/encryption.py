"""Which connections of a cluster are encrypted, and the refusal of those that are not but cross a network."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kilonova.base.faults import conflict, invalid
from kilonova.cli.settings import ClusterSettings
from kilonova.cli.state import is_loopback
from kilonova.pki.contexts import Tls

if TYPE_CHECKING:
    from kilonova.pki.authority import Authority

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Encryption:
    """A process's TLS contexts; `authority` is set in the process that signs for hosts."""

    tls: Tls
    authority: Authority | None = None


def encryption_of(cluster: ClusterSettings, *, signs: bool = False) -> Encryption:
    """What [cluster.tls] describes, its files read now, while root may."""
    files = cluster.tls
    tls = Tls(files.authority, files.certificate, files.key)
    if not signs or not files.authority_key:
        return Encryption(tls)
    return Encryption(tls, read_authority(Path(files.authority), Path(files.authority_key)))


def read_authority(certificate: Path, key: Path) -> Authority:
    """The authority of these files. CONFLICT when one is missing, or the key is open to others."""
    from kilonova.pki.authority import Authority  # only who signs needs to know X.509

    try:
        if key.stat().st_mode & 0o077:
            raise conflict(f"Others may read the authority's key {key}.", hint=f"chmod 600 {key}")
        return Authority(certificate.read_text(), key.read_text())
    except OSError as error:
        raise conflict(
            f"There is no authority in {key.parent} that can be read: {error.strerror}.",
            hint="Make one with `kilonova ca init`, or name its --directory.",
        ) from None


def database_url(template: str) -> tuple[str, bool]:
    """(URL without our own `tls=`, whether TLS is spoken to it): to other machines always, unless `?tls=off`."""
    plain, _, query = template.partition("?")
    words = [word for word in query.split("&") if word]
    asked = [word.removeprefix("tls=") for word in words if word.startswith("tls=")]
    if asked and asked[-1] not in ("on", "off"):
        raise invalid(f"[cluster] database says tls={asked[-1]}.", hint="?tls=on or ?tls=off.")
    others = "&".join(word for word in words if not word.startswith("tls="))
    wanted = asked[-1] == "on" if asked else not is_loopback(urlsplit(plain).hostname or "")
    return (f"{plain}?{others}" if others else plain), wanted


def plain_connections(cluster: ClusterSettings) -> Iterator[str]:
    """What of the settings would cross a network in clear."""
    named = [("url", cluster.url), ("broker_admin", cluster.broker_admin)]
    named += [("brokers", url) for url in cluster.brokers]
    named += [(f"endpoints.{mount}", url) for mount, url in cluster.endpoints.items()]
    for name, url in named:
        parts = urlsplit(url)
        if parts.scheme in ("http", "amqp") and not is_loopback(parts.hostname or ""):
            yield f"{name} ({parts.scheme}://{parts.hostname})"
    host = urlsplit(cluster.database.partition("?")[0]).hostname or ""
    if cluster.database and not is_loopback(host) and not database_url(cluster.database)[1]:
        yield f"database ({host}, tls=off)"


def refuse_plain(cluster: ClusterSettings) -> None:
    """INVALID when passwords and tokens would cross a network in clear, unless the settings say `plain = true`."""
    found = list(plain_connections(cluster))
    if found and not cluster.plain:
        raise invalid(
            f"Not encrypted, and not on this machine alone: {', '.join(found)}.",
            hint="Use https://, amqps:// and [cluster.tls] (docs/guide/cluster.md), or say [cluster] plain = true.",
        )
    for one in found:
        log.warning("not encrypted: %s; whoever listens there reads passwords and tokens", one)


def listens_encrypted(cluster: ClusterSettings, host: str, url: str, tls: Tls) -> bool:
    """Whether an API that listens on `host` speaks TLS: always where others reach it.

    On loopback it does when `url`, where it is reached, says https; "" behind a load balancer of this machine.
    """
    wanted = urlsplit(url).scheme == "https" or (not is_loopback(host) and not cluster.plain)
    if wanted and tls.server is None:
        raise invalid(
            f"An API that listens on {host} needs a certificate.",
            hint="kilonova ca issue HOST --address ADDRESS, then [cluster.tls] certificate and key.",
        )
    return wanted
