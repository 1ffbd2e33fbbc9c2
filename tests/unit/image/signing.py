"""Keys, certificates and signatures of images, as their owners make them."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, padding, rsa

NOW = datetime(2030, 1, 1, tzinfo=UTC)
HASHES: dict[str, Any] = {"SHA-224": hashes.SHA224(), "SHA-256": hashes.SHA256(), "SHA-384": hashes.SHA384(),
                          "SHA-512": hashes.SHA512()}  # fmt: skip
CERTIFICATE_ID = "0c5e0000-0000-4000-8000-000000000001"


def new_key(kind: str) -> Any:
    """A private key of a signature's key type."""
    match kind:
        case "RSA-PSS":
            return rsa.generate_private_key(65537, 2048)
        case "DSA":
            return dsa.generate_private_key(2048)
        case "ECC_SECP384R1":
            return ec.generate_private_key(ec.SECP384R1())
        case _:
            return ec.generate_private_key(ec.SECP521R1())


class Authority:
    """A certificate with its key; `above` issued it (none: it signed itself)."""

    def __init__(
        self, name: str, above: Authority | None = None, *, key: Any = None, ca: bool = True,
        path_length: int | None = None, days: tuple[int, int] = (-1, 365), now: datetime = NOW,
    ) -> None:  # fmt: skip
        self.key = key or new_key("ECC_SECP384R1")
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        issuer, signer = (self.name, self.key) if above is None else (above.name, above.key)
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(issuer)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=days[0]))
            .not_valid_after(now + timedelta(days=days[1]))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=path_length if ca else None), critical=True)
        )
        usage = x509.KeyUsage(not ca, False, False, False, False, ca, ca, False, False)
        self.certificate = builder.add_extension(usage, critical=True).sign(signer, hashes.SHA384())

    @property
    def pem(self) -> bytes:
        """As an operator keeps it."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def der(self) -> bytes:
        """As a key manager may keep it."""
        return self.certificate.public_bytes(serialization.Encoding.DER)


def sign(key: Any, data: bytes, kind: str, hash_name: str) -> bytes:
    """The signature of the data."""
    method = HASHES[hash_name]
    if kind == "RSA-PSS":
        return bytes(key.sign(data, padding.PSS(padding.MGF1(method), padding.PSS.MAX_LENGTH), method))
    if kind == "DSA":
        return bytes(key.sign(data, method))
    return bytes(key.sign(data, ec.ECDSA(method)))


def signed(
    key: Any, data: bytes, kind: str = "ECC_SECP384R1", hash_name: str = "SHA-256", certificate: str = CERTIFICATE_ID
) -> dict[str, str]:
    """The four properties of an image with this data."""
    return {
        "img_signature": base64.b64encode(sign(key, data, kind, hash_name)).decode(),
        "img_signature_hash_method": hash_name,
        "img_signature_key_type": kind,
        "img_signature_certificate_uuid": certificate,
    }
