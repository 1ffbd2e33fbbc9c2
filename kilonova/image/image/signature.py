"""Signed images: the four img_signature properties say how the data was signed; it is verified before it is used.

Source: Glance's "Image signature verification" guide; RFC 8017 (PSS), FIPS 186-4 (DSA, ECDSA).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from kilonova.base.faults import Fault, invalid

PREFIX = "img_signature"
CERTIFICATE = "img_signature_certificate_uuid"
NAMES = ("img_signature", CERTIFICATE, "img_signature_hash_method", "img_signature_key_type")
HASHES: dict[str, hashes.HashAlgorithm] = {
    "SHA-224": hashes.SHA224(),
    "SHA-256": hashes.SHA256(),
    "SHA-384": hashes.SHA384(),
    "SHA-512": hashes.SHA512(),
}
KEY_TYPES = ("RSA-PSS", "DSA", "ECC_SECP521R1", "ECC_SECP384R1")
# OpenStack names them too. NIST SP 800-186 advises against binary curves, and the library knows them no longer.
BINARY_CURVES = ("ECC_SECT571K1", "ECC_SECT409K1", "ECC_SECT571R1", "ECC_SECT409R1")


def is_signed(properties: Mapping[str, Any]) -> bool:
    """Whether an image with these properties says that its data is signed: all four are there."""
    return all(properties.get(name) for name in NAMES)


class Verifier:
    """Fed with the data as it passes; `verify` at the end. `said` are the image's properties, `certificate` is PEM or
    DER, as the key manager keeps it. INVALID when the signature could not be verified whatever the data."""

    def __init__(self, said: Mapping[str, Any], certificate: bytes) -> None:
        self._hash = HASHES.get(said["img_signature_hash_method"])
        self._type = said["img_signature_key_type"]
        if self._hash is None:
            raise invalid(
                f"Invalid signature hash method {said['img_signature_hash_method'][:40]!r}.",
                hint=f"Known: {', '.join(HASHES)}.",
            )
        if self._type in BINARY_CURVES:
            raise invalid(f"Signatures of type {self._type} are not taken.", hint="Sign with a key on SECP384R1.")
        if self._type not in KEY_TYPES:
            raise invalid(f"Invalid signature key type {self._type[:40]!r}.", hint=f"Known: {', '.join(KEY_TYPES)}.")
        try:
            self._signature = base64.b64decode(said["img_signature"], validate=True)
        except binascii.Error:
            raise invalid("The signature data was not properly encoded using base64.") from None
        self._key = _key(read_certificate(certificate))
        self._digest = hashlib.new(self._hash.name.replace("-", ""))

    def update(self, data: bytes) -> None:
        """The next bytes."""
        self._digest.update(data)

    def verify(self) -> None:
        """INVALID unless the signature is that of the data that passed."""
        digest = self._digest.digest()
        try:
            self._check(digest)
        except (InvalidSignature, ValueError, TypeError):
            raise _bad() from None

    def _check(self, digest: bytes) -> None:
        assert self._hash is not None
        hashed = Prehashed(self._hash)
        key = self._key
        if self._type == "RSA-PSS" and isinstance(key, rsa.RSAPublicKey):
            pss = padding.PSS(padding.MGF1(self._hash), padding.PSS.AUTO)
            key.verify(self._signature, digest, pss, hashed)
        elif self._type == "DSA" and isinstance(key, dsa.DSAPublicKey):
            key.verify(self._signature, digest, hashed)
        elif isinstance(key, ec.EllipticCurvePublicKey) and self._type == f"ECC_{key.curve.name.upper()}":
            key.verify(self._signature, digest, ec.ECDSA(hashed))
        else:
            raise invalid("The certificate's key is not of the signature's key type.")


def _bad() -> Fault:
    return invalid("Signature verification for the image failed.", hint="Sign the data that is uploaded, as it is.")


def read_certificate(data: bytes) -> x509.Certificate:
    """The certificate, PEM or DER. INVALID when it cannot be read."""
    try:
        if data.lstrip().startswith(b"-----BEGIN"):
            return x509.load_pem_x509_certificate(data)
        return x509.load_der_x509_certificate(data)
    except ValueError:
        raise invalid("A certificate cannot be read.", hint="The key manager must keep it as PEM or DER.") from None


def _key(certificate: x509.Certificate) -> Any:
    try:
        return certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise invalid("The signature's certificate has a key of an unknown kind.") from None
