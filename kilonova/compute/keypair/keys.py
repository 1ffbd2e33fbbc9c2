"""Keys themselves: made, read, and their fingerprints. All of it is slow or untrusted: call through world.blocking."""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime, timedelta

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from kilonova.base.faults import invalid

RSA_BITS = 2048
COMMENT = "Generated-by-Kilonova"
CERTIFICATE_DAYS = 3650
_PRINCIPAL = ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")  # userPrincipalName, which Windows logs in by


class Made(msgspec.Struct, frozen=True):
    """A public key with its fingerprint, and the private key when it was made here."""

    public_key: str
    fingerprint: str
    private_key: str = ""


def make_ssh() -> Made:
    """A new RSA key: the form that every guest, old or new, and every client reads."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    opened = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    line = f"{opened.decode()} {COMMENT}\n"
    return Made(line, ssh_fingerprint(line), _private(key))


def make_x509(user_id: str, project_id: str, now: datetime) -> Made:
    """A new RSA key and a certificate for it, signed by itself, for a Windows guest's login without password."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, user_id[:64])])
    principal = x509.OtherName(_PRINCIPAL, _utf8(f"{user_id}@{project_id}"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=CERTIFICATE_DAYS))
        .add_extension(x509.SubjectAlternativeName([principal]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
    return Made(pem, x509_fingerprint(pem), _private(key))


def read(kind: str, public_key: str) -> Made:
    """A key that a user brought, with its fingerprint; INVALID when it is not what it should be."""
    try:
        fingerprint = x509_fingerprint(public_key) if kind == "x509" else ssh_fingerprint(public_key)
    except (ValueError, UnsupportedAlgorithm, UnicodeEncodeError):
        what = "a certificate in PEM form" if kind == "x509" else "a public key in OpenSSH form"
        raise invalid(
            "Keypair data is invalid: failed to generate fingerprint.", hint=f"Give {what}.", code="InvalidKeypair"
        ) from None
    return Made(public_key, fingerprint)


def ssh_fingerprint(line: str) -> str:
    """MD5 over the key itself, as pairs of hex digits: what this API has always shown."""
    serialization.load_ssh_public_key(line.encode("ascii", "ignore").strip())
    blob = base64.b64decode(line.split()[1])
    return _pairs(hashlib.md5(blob, usedforsecurity=False).hexdigest())


def x509_fingerprint(pem: str) -> str:
    """SHA-1 over the certificate, as upper-case pairs of hex digits."""
    certificate = x509.load_pem_x509_certificate(pem.encode())
    return _pairs(certificate.fingerprint(hashes.SHA1()).hex()).upper()


def _pairs(digits: str) -> str:
    return ":".join(digits[at : at + 2] for at in range(0, len(digits), 2))


def _private(key: rsa.RSAPrivateKey) -> str:
    made = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    return made.decode()


def _utf8(text: str) -> bytes:
    """DER: a UTF8String."""
    body = text.encode()
    length = bytes([len(body)]) if len(body) < 128 else b"\x81" + bytes([len(body)])
    return b"\x0c" + length + body
