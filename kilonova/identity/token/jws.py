"""Tokens as JWS (RFC 7515, ES256): signed and readable, where Fernet's are encrypted. Only identity signs and opens."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import jwt
from cryptography.fernet import InvalidToken
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

_ALGORITHM = "ES256"  # the only one: what a token says about itself is not believed
_jws = jwt.PyJWS(algorithms=[_ALGORITHM])


def new_key() -> str:
    """A private key on P-256, as PEM."""
    private = ec.generate_private_key(ec.SECP256R1())
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


class JwsKeys:
    """Signs with the first of its keys, opens with any. The keys are PEM."""

    def __init__(self, pems: Sequence[str]) -> None:
        self._private = [_private(pem) for pem in pems]
        self._public = {_name(one): one.public_key() for one in self._private}
        self._first = next(iter(self._public), "")

    def sign(self, payload: bytes) -> str:
        """The compact form: three parts with dots between them."""
        return _jws.encode(payload, self._private[0], _ALGORITHM, headers={"typ": "JOSE", "kid": self._first})

    def open(self, token: str) -> bytes:
        """What was signed; `InvalidToken` when none of the keys did."""
        try:
            key = self._public[jwt.get_unverified_header(token)["kid"]]
            return bytes(_jws.decode(token, key, algorithms=[_ALGORITHM]))
        except (jwt.PyJWTError, KeyError, TypeError, ValueError):
            raise InvalidToken from None


def _private(pem: str) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(pem.encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def _name(key: ec.EllipticCurvePrivateKey) -> str:
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(public).hexdigest()[:16]
