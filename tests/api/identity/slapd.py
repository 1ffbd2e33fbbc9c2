"""A real directory (OpenLDAP's slapd) on loopback: a process of its own, with its own folder, ports and certificate."""

from __future__ import annotations

import ipaddress
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import ldap
import ldap.modlist
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

BASE = "dc=corp,dc=example"
PEOPLE, TEAMS = f"ou=People,{BASE}", f"ou=Teams,{BASE}"
ROOT, ROOT_PASSWORD = f"cn=root,{BASE}", "root-canary-4711"
READER, READER_PASSWORD = f"cn=reader,{BASE}", "reader-canary-4711"
LIMIT = 30  # entries that it tells in all
SLAPD = shutil.which("slapd") or shutil.which("slapd", path="/usr/sbin")
_CONFIGURATION = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
include /etc/ldap/schema/nis.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {home}/slapd.pid
TLSCACertificateFile {home}/ca.pem
TLSCertificateFile {home}/server.pem
TLSCertificateKeyFile {home}/server.key
sizelimit {limit}
database mdb
maxsize 16777216
suffix "{base}"
rootdn "{root}"
rootpw {password}
directory {home}/data
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="{reader}" read by anonymous auth by * none
"""
_PEOPLE = {"alice": "Alice Liddell", "bob": "Bob Dobbs", "carol": "Carol Jones", "dave": "Dave Null"}
_TEAMS = {"staff": ["alice", "bob", "carol"], "ops": ["alice"]}


class Slapd:
    """The directory of a company: a few people, each with their name as password, in groups."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port, self.tls_port = _free_port(), _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"ldap://127.0.0.1:{self.port}"

    @property
    def tls_url(self) -> str:
        return f"ldaps://127.0.0.1:{self.tls_port}"

    def options(self, **more: Any) -> dict[str, Any]:
        """What a domain's configuration says of this directory."""
        return {
            "url": self.url, "user": READER, "password": READER_PASSWORD, "suffix": BASE,
            "user_tree_dn": PEOPLE, "user_id_attribute": "uid", "user_name_attribute": "uid",
            "user_enabled_attribute": "title", "group_tree_dn": TEAMS, "group_name_attribute": "cn",
            "connection_timeout": 2,
        } | more  # fmt: skip

    def prepare(self) -> None:
        """Write what it runs on."""
        (self.home / "data").mkdir()
        _certificates(self.home)
        words = {
            "base": BASE,
            "root": ROOT,
            "password": ROOT_PASSWORD,
            "reader": READER,
            "home": self.home,
            "limit": LIMIT,
        }
        (self.home / "slapd.conf").write_text(_CONFIGURATION.format(**words))
        (self.home / "first.ldif").write_text(_ldif())
        self._run("-Ta", "-l", str(self.home / "first.ldif"), "-q")

    def _run(self, *words: str) -> None:
        assert SLAPD is not None
        subprocess.run(
            [SLAPD, *words, "-f", str(self.home / "slapd.conf")], check=True, capture_output=True, timeout=30
        )

    def start(self) -> None:
        """It answers when this returns."""
        assert SLAPD is not None
        command = [SLAPD, "-d", "0", "-f", str(self.home / "slapd.conf"), "-h", f"{self.url} {self.tls_url}"]
        self._process = subprocess.Popen(command, stderr=(self.home / "log").open("wb"))
        until = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert self._process.poll() is None and time.monotonic() < until, (self.home / "log").read_text()
                time.sleep(0.02)

    def stop(self) -> None:
        """It answers nobody any more."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self, frozen: bool = True) -> None:
        """It takes connections and says nothing, until it thaws."""
        assert self._process is not None
        self._process.send_signal(19 if frozen else 18)

    @contextmanager
    def changing(self) -> Iterator[Any]:
        """A connection that may write."""
        link = ldap.initialize(self.url)
        link.simple_bind_s(ROOT, ROOT_PASSWORD)
        try:
            yield link
        finally:
            link.unbind_s()

    def add(self, dn: str, **attributes: str | list[str]) -> None:
        """A new entry."""
        values = {
            name: [one.encode() for one in ([value] if isinstance(value, str) else value)]
            for name, value in attributes.items()
        }
        with self.changing() as link:
            link.add_s(dn, ldap.modlist.addModlist(values))

    def set(self, dn: str, **attributes: str | list[str] | None) -> None:
        """Other values of an entry; None takes an attribute away."""
        changes = []
        for name, value in attributes.items():
            values = None if value is None else [one.encode() for one in ([value] if isinstance(value, str) else value)]
            changes.append((ldap.MOD_REPLACE, name, values))
        with self.changing() as link:
            link.modify_s(dn, changes)

    def delete(self, dn: str) -> None:
        with self.changing() as link:
            link.delete_s(dn)

    def add_person(self, uid: str, **more: str | list[str]) -> None:
        """A new person whose password is its name."""
        values: dict[str, str | list[str]] = {"cn": uid, "sn": uid, "uid": uid, "userPassword": uid}
        self.add(person(uid), objectClass="inetOrgPerson", **(values | more))


def person(uid: str) -> str:
    """The distinguished name of a person."""
    return f"uid={uid},{PEOPLE}"


def team(cn: str) -> str:
    """The distinguished name of a group."""
    return f"cn={cn},{TEAMS}"


def _ldif() -> str:
    entries = [
        (BASE, ["objectClass: dcObject", "objectClass: organization", "o: Corp", "dc: corp"]),
        (READER, ["objectClass: organizationalRole", "objectClass: simpleSecurityObject", "cn: reader",
                  f"userPassword: {READER_PASSWORD}"]),
        (PEOPLE, ["objectClass: organizationalUnit", "ou: People"]),
        (TEAMS, ["objectClass: organizationalUnit", "ou: Teams"]),
    ]  # fmt: skip
    for uid, name in _PEOPLE.items():
        lines = [f"objectClass: inetOrgPerson\nuid: {uid}\ncn: {name}\nsn: {name.split()[1]}\nuserPassword: {uid}"]
        lines += [f"mail: {uid}@corp.example", "telephoneNumber: 0815"]
        entries.append((person(uid), [*lines, "title: FALSE"] if uid == "dave" else lines))
    for cn, members in _TEAMS.items():
        lines = ["objectClass: groupOfNames", f"cn: {cn}", f"description: The {cn}"]
        entries.append((team(cn), lines + [f"member: {person(uid)}" for uid in members]))
    return "\n".join(f"dn: {dn}\n" + "\n".join(lines) + "\n" for dn, lines in entries)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _certificates(home: Path) -> None:
    """An authority (`ca.pem`), a certificate of it for 127.0.0.1, and an authority that signed nothing (`other`)."""
    authority, key = _authority("test authority")
    other, _ = _authority("another authority")
    mine = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = _builder("directory", authority.subject, mine.public_key()).add_extension(names, critical=False)
    (home / "ca.pem").write_bytes(authority.public_bytes(Encoding.PEM))
    (home / "other.pem").write_bytes(other.public_bytes(Encoding.PEM))
    (home / "server.pem").write_bytes(signed.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    private = mine.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (home / "server.key").write_bytes(private)


def _authority(name: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    built = _builder(name, subject, key.public_key())
    return built.add_extension(x509.BasicConstraints(True, None), critical=True).sign(key, hashes.SHA256()), key


def _builder(name: str, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
    )


@contextmanager
def slapd() -> Iterator[Slapd]:
    """A directory that answers while the test runs."""
    with tempfile.TemporaryDirectory(prefix="kilonova-slapd-") as folder:
        made = Slapd(Path(folder))
        made.prepare()
        made.start()
        try:
            yield made
        finally:
            made.stop()
