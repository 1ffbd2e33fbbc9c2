"""`kilonova ca`: the cluster's own certificate authority: make it, issue and renew certificates of hosts, show them.

Its directory holds `ca.pem`, to be copied to every host; `ca.key`, which never leaves it; and `NAME.pem` with
`NAME.key` for each certificate issued, to be moved to their host.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from kilonova.base.clock import SystemClock
from kilonova.base.faults import conflict, exists, invalid
from kilonova.cli.encryption import read_authority
from kilonova.cli.state import HOST_NAME, write_private
from kilonova.pki import authority as pki
from kilonova.pki.authority import Authority, Issued

SOON_DAYS = 30


class Directory:
    """The authority's files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.certificate, self.key = path / "ca.pem", path / "ca.key"

    def authority(self) -> Authority:
        """The authority. CONFLICT when it was not made, or its key is open to others."""
        return read_authority(self.certificate, self.key)

    def make(self, name: str, now: datetime) -> Authority:
        """A new authority. EXISTS when there is one: what it issued would be worth nothing."""
        if self.key.exists() or self.certificate.exists():
            raise exists(f"There is an authority in {self.path} already.", hint="Choose another --directory.")
        made = pki.new_authority(name, now)
        self.path.mkdir(mode=0o755, parents=True, exist_ok=True)
        write_private(self.key, made.key.encode())
        write_public(self.certificate, made.certificate)
        return made

    def keep(self, name: str, issued: Issued) -> tuple[Path, Path]:
        """Files of a certificate and its key, older ones of that name replaced."""
        certificate, key = self.path / f"{name}.pem", self.path / f"{name}.key"
        write_private(key, issued.key.encode())
        write_public(certificate, issued.certificate)
        return certificate, key

    def issued(self, name: str) -> str:
        """The certificate of that name. CONFLICT when none was issued."""
        try:
            return (self.path / f"{name}.pem").read_text()
        except OSError:
            raise conflict(
                f"No certificate {name!r} was issued here.", hint=f"kilonova ca issue {name} --address ADDRESS"
            ) from None

    def all(self) -> list[tuple[str, str]]:
        """(name, certificate) of each, the authority's own first."""
        others = sorted(path for path in self.path.glob("*.pem") if path != self.certificate)
        return [(path.stem, path.read_text()) for path in [self.certificate, *others]]


def write_public(path: Path, text: str) -> None:
    """Replace a file whole; everybody may read it."""
    write_private(path, text.encode())
    path.chmod(0o644)


def run(options: argparse.Namespace) -> int:
    """0; `show` answers 1 when a certificate has expired or will within a month."""
    at, now = Directory(options.directory), SystemClock().now()
    if options.what == "init":
        made = at.make(options.name or "Kilonova", now)
        print(f"  {at.certificate}   for every host: [cluster.tls] authority")
        print(f"  {at.key}   stays here; whoever has it can be any host")
        print(f"  SHA-256 {pki.fingerprint(made.certificate)}")
        return 0
    if options.what == "show":
        return show(at, now)
    if not HOST_NAME.fullmatch(options.name.partition(".")[0]) or options.name == at.certificate.stem:
        raise invalid(f"{options.name!r} is not a name.", hint="kilonova ca issue NAME --address ADDRESS")
    names = [options.name, *options.address]
    if options.what == "renew":
        names = pki.names_of(at.issued(options.name))
    _tell(at.keep(options.name, pki.issue_for_host(at.authority(), names, now, options.days)), names)
    return 0


def _tell(files: Sequence[Path], names: Sequence[str]) -> None:
    print(f"  {files[0]}   for {', '.join(names)}: [cluster.tls] certificate")
    print(f"  {files[1]}   its key: move it to that host, and keep it 0600")


def show(at: Directory, now: datetime) -> int:
    """Each certificate: what it is for, how long it is good, its hash."""
    at.authority()
    ending = 0
    for name, certificate in at.all():
        until = pki.read(certificate).not_valid_after_utc
        left = (until - now).days
        ending += left < SOON_DAYS
        note = "EXPIRED" if left < 0 else f"{left} days left" if left < SOON_DAYS else f"until {until:%Y-%m-%d}"
        names = ", ".join(pki.names_of(certificate)) or "the authority itself"
        print(f"  {name:16} {note:18} {names}\n  {'':16} SHA-256 {pki.fingerprint(certificate)}")
    if ending:
        print("  kilonova ca renew NAME makes a new one; copy it to its host and send its processes SIGHUP")
    return 1 if ending else 0


def expiring(certificate: Path, now: datetime) -> str:
    """What is wrong with a certificate in use; "" when it is good for another month."""
    try:
        until = pki.read(certificate.read_text()).not_valid_after_utc
    except OSError as error:
        return f"{certificate} cannot be read: {error.strerror}"
    if (until - now.astimezone(UTC)).days >= SOON_DAYS:
        return ""
    return f"{certificate} {'expired' if until < now else 'expires'} on {until:%Y-%m-%d}: kilonova ca renew"
