"""Signed images: the four img_signature properties say how the data was signed; it is verified before it is used.

Source: Glance's "Image signature verification" guide; RFC 8017 (PSS), FIPS 186-4 (DSA, ECDSA).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from kilonova.base.faults import Fault, invalid
from kilonova.image.image.store import Image

PREFIX = "img_signature"
NAMES = ("img_signature", "img_signature_certificate_uuid", "img_signature_hash_method", "img_signature_key_type")
HASHES: dict[str, hashes.HashAlgorithm] = {
    "SHA-224": hashes.SHA224(),
    "SHA-256": hashes.SHA256(),
    "SHA-384": hashes.SHA384(),
    "SHA-512": hashes.SHA512(),
}
KEY_TYPES = ("RSA-PSS", "DSA", "ECC_SECT571K1", "ECC_SECT409K1", "ECC_SECT571R1", "ECC_SECT409R1", "ECC_SECP521R1",
             "ECC_SECP384R1")  # fmt: skip


def is_signed(image: Image) -> bool:
    """Whether the image says that its data is signed: all four properties are there."""
    return all(image.properties.get(name) for name in NAMES)


class Verifier:
    """Fed with the data as it passes; `verify` at the end. `certificate` is PEM or DER, as the key manager keeps it."""

    def __init__(self, image: Image, certificate: bytes) -> None:
        said = image.properties
        self._hash = HASHES.get(said["img_signature_hash_method"])
        self._type = said["img_signature_key_type"]
        if self._hash is None:
            raise invalid(f"Invalid signature hash method {said['img_signature_hash_method'][:40]!r}.")
        if self._type not in KEY_TYPES:
            raise invalid(f"Invalid signature key type {self._type[:40]!r}.")
        try:
            self._signature = base64.b64decode(said["img_signature"], validate=True)
        except binascii.Error:
            raise invalid("The signature data was not properly encoded using base64.") from None
        self._key = _public_key(certificate)
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


def _public_key(certificate: bytes) -> Any:
    try:
        if certificate.lstrip().startswith(b"-----BEGIN"):
            return x509.load_pem_x509_certificate(certificate).public_key()
        return x509.load_der_x509_certificate(certificate).public_key()
    except ValueError:
        raise invalid("The signature's certificate cannot be read.") from None
