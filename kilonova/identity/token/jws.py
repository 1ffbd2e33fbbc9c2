"""Tokens as JWS (RFC 7515, ES256): signed and readable, where Fernet's are encrypted. Only identity signs and opens.

Where no such token was ever asked for, neither PyJWT nor the reader of keys is loaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache, cached_property
from typing import TYPE_CHECKING

from cryptography.fernet import InvalidToken

if TYPE_CHECKING:
    import jwt
    from cryptography.hazmat.primitives.asymmetric import ec

_ALGORITHM = "ES256"  # the only one: what a token says about itself is not believed


@cache
def _jws() -> jwt.PyJWS:
    import jwt

    return jwt.PyJWS(algorithms=[_ALGORITHM])


def new_key() -> str:
    """A private key on P-256, as PEM."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    private = ec.generate_private_key(ec.SECP256R1())
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


class JwsKeys:
    """Signs with the first of its keys, opens with any. The keys are PEM, and are read when one is needed."""

    def __init__(self, pems: Sequence[str]) -> None:
        self._pems = pems

    @cached_property
    def _private(self) -> list[ec.EllipticCurvePrivateKey]:
        return [_private(pem) for pem in self._pems]

    @cached_property
    def _public(self) -> dict[str, ec.EllipticCurvePublicKey]:
        return {_name(one): one.public_key() for one in self._private}

    def sign(self, payload: bytes) -> str:
        """The compact form: three parts with dots between them."""
        first = next(iter(self._public))
        return _jws().encode(payload, self._private[0], _ALGORITHM, headers={"typ": "JOSE", "kid": first})

    def open(self, token: str) -> bytes:
        """What was signed; `InvalidToken` when none of the keys did."""
        import jwt

        try:
            key = self._public[jwt.get_unverified_header(token)["kid"]]
            return bytes(_jws().decode(token, key, algorithms=[_ALGORITHM]))
        except (jwt.PyJWTError, KeyError, TypeError, ValueError):
            raise InvalidToken from None


def _private(pem: str) -> ec.EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key(pem.encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def _name(key: ec.EllipticCurvePrivateKey) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(public).hexdigest()[:16]
