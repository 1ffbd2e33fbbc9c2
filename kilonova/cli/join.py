"""A new host joins a cluster with its invitation: `kilonova service compute --join INVITATION`.

It fetches its own secrets and the settings that all hosts share, writes them for root only, and from then on starts
like any other: `kilonova service compute`. What the settings file of this machine says already stays.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
import msgspec

from kilonova.base.faults import Fault, Kind, conflict, invalid, unavailable
from kilonova.base.settings import fill, read_file
from kilonova.cli.compose.admission import Kept, senders_of
from kilonova.cli.compose.cluster import parts_of
from kilonova.cli.settings import CloudSettings
from kilonova.cli.state import is_loopback, write_private
from kilonova.http.client import Reply, fault_from
from kilonova.identity.host.join import AUTHORITY_PATH, PATH
from kilonova.pki.authority import certificate_request, fingerprint
from kilonova.pki.contexts import Tls, trusting

PREFIX = "kn1."  # of this form of invitations
TIMEOUT_SECONDS = 60.0
BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


class Invitation(msgspec.Struct, frozen=True):
    """One line for one host: where to ask, who may join as what, and the secret that works once."""

    url: str
    host: str
    roles: list[str]
    secret: str
    pin: str = ""  # SHA-256 of the authority whose certificate `url` must show; "": of one that the system trusts

    def __repr__(self) -> str:
        return f"Invitation({self.host})"

    def encode(self) -> str:
        """The line."""
        return PREFIX + base64.urlsafe_b64encode(msgspec.json.encode(self)).decode().rstrip("=")

    @classmethod
    def decode(cls, line: str) -> Self:
        """What the line says. INVALID when it is cut or from elsewhere."""
        text = line.removeprefix(PREFIX)
        try:
            if text == line:
                raise ValueError
            return msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=cls)
        except (ValueError, binascii.Error, msgspec.DecodeError):
            raise invalid(
                "This is no invitation, or not the whole of one.",
                hint="Copy the whole line that `kilonova host invite NAME` printed.",
            ) from None


@dataclass(frozen=True)
class Files:
    """Where a host keeps what it was given; `home` is the directory where its settings will look."""

    directory: Path
    config: Path
    home: Path

    @classmethod
    def of(cls, config: Path) -> Self:
        """Beside the settings file."""
        at = config.absolute().parent
        return cls(at, config.absolute(), at)

    @classmethod
    def beneath(cls, directory: Path) -> Self:
        """In a directory, to be copied to /etc/kilonova."""
        return cls(directory, directory / "cluster.toml", Path("/etc/kilonova"))


def refuse_plain(url: str) -> None:
    """INVALID when secrets asked from there could be read on the way."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
        raise invalid(
            f"{url} is not encrypted, and a host's secrets must not cross a network in clear.",
            hint="Give identity a https:// URL, or copy files: kilonova host secrets NAME --output DIRECTORY.",
        )


def pin_of(authority: str) -> str:
    """What an invitation says about an authority: the SHA-256 of its certificate; "" for none."""
    return fingerprint(authority) if authority else ""


def run(line: str, service: str, config: Path) -> None:
    """Redeem the invitation and write the files. Everything here that can be wrong is found out before it is used."""
    invitation = Invitation.decode(line)
    known = set(senders_of(invitation.host, invitation.roles))
    if not {part.sender.format(host=invitation.host) for part in parts_of(service)} <= known:
        raise invalid(
            f"The invitation lets {invitation.host} run as {', '.join(invitation.roles)}, not as {service}.",
            hint=f"On the controller: kilonova host invite {invitation.host} --role ROLE.",
        )
    refuse_plain(invitation.url)
    files = Files.of(config)
    own = read_file(config) if config.exists() else {}
    fill(CloudSettings, own)
    _try_to_write(files)
    request, key = certificate_request([invitation.host])
    written = keep(_redeem(invitation, request), files, own, key)
    print(f"  {invitation.host} has joined; written: {', '.join(map(str, written))}", flush=True)


def _try_to_write(files: Files) -> None:
    """CONFLICT when the files could not be kept: the invitation would be used for nothing."""
    probe = files.directory / ".joining"
    try:
        files.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(probe, b"")
        probe.unlink()
    except OSError as error:
        raise conflict(
            f"{files.directory} cannot be written: {error.strerror}.", hint="Run this as root, or choose --config."
        ) from None


def _redeem(invitation: Invitation, request: str) -> Kept:
    body = {"host": {"invitation": invitation.secret, "certificate_request": request}}
    try:
        verify = _trusted(invitation)
        answer = httpx.post(
            f"{invitation.url}{PATH}", json=body, timeout=TIMEOUT_SECONDS, trust_env=False, verify=verify
        )
    except httpx.HTTPError as error:
        raise unavailable(
            "The cluster does not answer.",
            hint="Is its identity service reached from here? The invitation can be used again if it was not asked.",
            inside=f"{invitation.url}: {error!r}",
        ) from None
    if answer.status_code != 201:
        raise _told(fault_from(Reply(answer.status_code, {}, answer.content), f"POST {invitation.url}{PATH}"))
    return msgspec.convert(answer.json()["host"], Kept)


def _trusted(invitation: Invitation) -> ssl.SSLContext:
    """Whom to believe at the invitation's URL. The secret is sent only to who has a certificate of that authority.

    The authority's own certificate comes over a connection that nobody vouches for, and is believed for its hash.
    """
    if not invitation.pin or urlsplit(invitation.url).scheme != "https":
        return Tls().client
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    address = f"{invitation.url}{AUTHORITY_PATH}"
    answer = httpx.get(address, timeout=TIMEOUT_SECONDS, trust_env=False, verify=context)
    try:
        certificate = str(answer.json()["certificate"])
        right = hmac.compare_digest(fingerprint(certificate), invitation.pin)
    except (ValueError, KeyError, TypeError, Fault):
        right = False
    if not right:
        raise Fault(
            Kind.FORBIDDEN,
            f"Who answers at {invitation.url} is not the cluster that invited.",
            hint="Somebody may be in between, or the authority is new: ask for a new invitation.",
        )
    return trusting(certificate)


def _told(fault: Fault) -> Fault:
    """The cluster's own sentence, without the address in it twice."""
    return Fault(fault.kind, fault.message)


def keep(kept: Kept, files: Files, own: Mapping[str, Any], key: str) -> list[Path]:
    """Write what was given, secrets readable by their owner only; `own` are this machine's settings, which go first.

    `key` belongs to the certificate, if one was issued.
    """
    files.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    given = {"secrets.json": msgspec.json.format(msgspec.json.encode(kept.secrets))}
    tls: dict[str, str] = {}
    if kept.authority:
        given["ca.pem"], tls["authority"] = kept.authority.encode(), f"{files.home}/ca.pem"
    if kept.certificate:
        given |= {"host.pem": kept.certificate.encode(), "host.key": key.encode()}
        tls |= {"certificate": f"{files.home}/host.pem", "key": f"{files.home}/host.key"}
    cluster = kept.settings["cluster"] | ({"tls": tls} if tls else {})
    settings = overlaid({**kept.settings, "cluster": cluster}, own)
    settings["cluster"] |= {"secrets": f"{files.home}/secrets.json", "brokers": cluster["brokers"]}
    fill(CloudSettings, settings)
    for name, data in given.items():
        write_private(files.directory / name, data)
    write_private(files.config, toml_of(settings).encode())
    return [*(files.directory / name for name in given), files.config]


def overlaid(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """The tables of `below` with those of `above` laid over them."""
    both: dict[str, Any] = dict(below)
    for name, value in above.items():
        nested = isinstance(value, Mapping) and isinstance(both.get(name), Mapping)
        both[name] = overlaid(both[name], value) if nested else value
    return both


def toml_of(table: Mapping[str, Any], name: str = "") -> str:
    """The table as TOML: values first, then tables."""
    lines = [f"{_key(key)} = {_value(value)}" for key, value in table.items() if not isinstance(value, Mapping)]
    text = "".join(f"{line}\n" for line in ([f"[{name}]"] if name and lines else []) + lines)
    nested = [(f"{name}.{_key(key)}" if name else _key(key), value) for key, value in table.items()]
    return "\n".join([text, *(toml_of(value, key) for key, value in nested if isinstance(value, Mapping))])


def _key(name: str) -> str:
    return name if BARE_KEY.fullmatch(name) else _value(name)


def _value(value: Any) -> str:
    """Strings, numbers, truths and lists are written in TOML as in JSON."""
    return json.dumps(value, ensure_ascii=False)
