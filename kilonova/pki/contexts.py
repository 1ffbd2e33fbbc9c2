"""TLS contexts of a process: whom it trusts, and what it shows. Host names are always checked."""

from __future__ import annotations

import ssl
from pathlib import Path

from kilonova.base.faults import conflict

OLDEST = ssl.TLSVersion.TLSv1_2


class Tls:
    """`client` for what the process connects to, `server` for what it listens on (None without a certificate).

    `authority` is the only one trusted; "" means those that the system trusts. Paths are read again by `reload`.
    """

    def __init__(self, authority: str = "", certificate: str = "", key: str = "") -> None:
        self._authority, self._certificate, self._key = authority, certificate, key
        self.client = ssl.create_default_context() if not authority else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.client.minimum_version = OLDEST
        self.server: ssl.SSLContext | None = None
        if certificate:
            self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.server.minimum_version = OLDEST
        self.reload()

    def reload(self) -> None:
        """Read the files again: connections made from now on use them. An authority is added, none is forgotten.

        CONFLICT, and nothing changed, when a file is missing, unreadable or does not fit.
        """
        try:
            if self._authority:
                self.client.load_verify_locations(self._authority)
            if self.server is not None:
                _refuse_open(Path(self._key))
                self.server.load_cert_chain(self._certificate, self._key)
        except (OSError, ssl.SSLError) as error:
            files = ", ".join(name for name in (self._authority, self._certificate, self._key) if name)
            raise conflict(
                "The certificates of this process cannot be read, or key and certificate are not of one pair.",
                hint="Check [cluster.tls]: `kilonova ca show` lists what was issued.",
                inside=f"{files}: {error}",
            ) from None


def _refuse_open(key: Path) -> None:
    if key.stat().st_mode & 0o007:
        raise conflict(f"Everybody may read the key {key}.", hint=f"chmod o= {key}")


def trusting(certificate: str) -> ssl.SSLContext:
    """A client's context that trusts one authority, given as PEM."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = OLDEST
    context.load_verify_locations(cadata=certificate)
    return context
