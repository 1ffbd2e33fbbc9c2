"""An authority: a key and its certificate, and the certificates that it signs. Pure functions over PEM texts.

Keys are on the curve P-256 (TLS everywhere knows it). Names stand in the subject alternative name, as RFC 6125 has it;
the common name is for people.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kilonova.base.faults import invalid

AUTHORITY_DAYS = 3650
HOST_DAYS = 365
RSA_BITS = 2048
EARLIER = timedelta(minutes=5)  # clocks differ
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
HOST_NAME = re.compile(rf"(?:\*\.)?(?:{_LABEL}\.)*{_LABEL}")
NAME_CHARACTERS = 64  # of a common name: RFC 5280, ub-common-name


@dataclass(frozen=True)
class Authority:
    """A certificate that signs, and its key, both PEM."""

    certificate: str
    key: str

    def __repr__(self) -> str:
        return "Authority()"


@dataclass(frozen=True)
class Issued:
    """A certificate with the key that was made for it, both PEM."""

    certificate: str
    key: str

    def __repr__(self) -> str:
        return "Issued()"


def new_authority(name: str, now: datetime, days: int = AUTHORITY_DAYS) -> Authority:
    """A self-signed authority that may sign certificates of hosts and users, but no further authorities."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(name)
    built = (
        _builder(subject, subject, key.public_key(), now, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage("key_cert_sign", "crl_sign"), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return Authority(_pem(built.sign(key, hashes.SHA256())), _key_pem(key))


def issue_for_host(authority: Authority, names: Sequence[str], now: datetime, days: int = HOST_DAYS) -> Issued:
    """A new key and a certificate for a host's names and addresses, good for both ends of a connection."""
    key = ec.generate_private_key(ec.SECP256R1())
    return Issued(certify_host(authority, key.public_key(), names, now, days), _key_pem(key))


def certify_host(
    authority: Authority, key: CertificatePublicKeyTypes, names: Sequence[str], now: datetime, days: int = HOST_DAYS
) -> str:
    """A certificate for the holder of `key` under these names and addresses. INVALID for what is neither."""
    if not names:
        raise invalid("A certificate needs at least one name.", hint="Host names and IP addresses.")
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    alternative = x509.SubjectAlternativeName([_general(name) for name in names])
    return _signed(
        authority, _name(names[0]), key, (now, days), [(x509.ExtendedKeyUsage(both), False), (alternative, False)]
    )


def issue_for_user(authority: Authority, who: tuple[str, str], now: datetime, days: int = HOST_DAYS) -> Issued:
    """A new RSA key and a certificate that only says who a client is: `who` are ids of a user and its project.

    No host can use it as a server's. RSA is what the tools of EC2 know.
    """
    key = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    client = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    made = _signed(authority, _name(*who), key.public_key(), (now, days), [(client, True)])
    return Issued(made, _key_pem(key))


def certificate_request(names: Sequence[str]) -> tuple[str, str]:
    """(request, key), both PEM, of a host that keeps its key to itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(_name(names[0]))
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return request.public_bytes(serialization.Encoding.PEM).decode(), _key_pem(key)


def requested_key(request: str) -> CertificatePublicKeyTypes:
    """The public key of a request whose sender proved to hold it. Names in it are wishes: who signs decides them."""
    try:
        read = x509.load_pem_x509_csr(request.encode())
        good = read.is_signature_valid
    except (ValueError, TypeError) as error:
        raise invalid("The certificate request cannot be read.", inside=str(error)) from None
    if not good:
        raise invalid("The certificate request is not signed by its own key.")
    return read.public_key()


def names_of(certificate: str) -> list[str]:
    """Names and addresses that a certificate is for."""
    try:
        found = read(certificate).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(one.value) for one in found]


def read(certificate: str) -> x509.Certificate:
    """The parsed certificate. INVALID when it is none."""
    try:
        return x509.load_pem_x509_certificate(certificate.encode())
    except ValueError as error:
        raise invalid("This is no certificate in PEM form.", inside=str(error)) from None


def fingerprint(certificate: str) -> str:
    """The SHA-256 of the certificate in hex: short enough to compare, impossible to imitate."""
    return read(certificate).fingerprint(hashes.SHA256()).hex()


def _signed(
    authority: Authority,
    subject: x509.Name,
    key: CertificatePublicKeyTypes,
    lifetime: tuple[datetime, int],
    extensions: Collection[tuple[x509.ExtensionType, bool]],
) -> str:
    issuer, signing = read(authority.certificate), _load_key(authority.key)
    now, days = lifetime
    left = (issuer.not_valid_after_utc - now).days
    if left < 1:
        raise invalid("The authority has expired.", hint="Make a new one: kilonova ca init.")
    built = (
        _builder(subject, issuer.subject, key, now, min(days, left))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage("digital_signature"), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False)
    )
    for extension, critical in extensions:
        built = built.add_extension(extension, critical=critical)
    return _pem(built.sign(signing, hashes.SHA256()))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: CertificatePublicKeyTypes, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(*named: str) -> x509.KeyUsage:
    uses = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{use: use in named for use in uses})


def _name(text: str, unit: str = "") -> x509.Name:
    named = [(NameOID.COMMON_NAME, text or "-"), *([(NameOID.ORGANIZATIONAL_UNIT_NAME, unit)] if unit else [])]
    return x509.Name([x509.NameAttribute(oid, value[:NAME_CHARACTERS]) for oid, value in named])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    if not HOST_NAME.fullmatch(name) or len(name) > 253:
        raise invalid(f"{name!r} is neither a host name nor an IP address.")
    return x509.DNSName(name)


def _load_key(pem: str) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError) as error:
        raise invalid("The authority's key cannot be read.", inside=type(error).__name__) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise invalid("The authority's key is not an elliptic curve's.", hint="Make one: kilonova ca init.")
    return key


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
