"""Signatures of every kind, and what is refused."""

from __future__ import annotations

import pytest

from kilonova.base.faults import Fault, Kind
from kilonova.image.image.signature import HASHES, KEY_TYPES, Verifier, is_signed
from tests.unit.image.signing import Authority, new_key, signed

DATA = bytes(range(256)) * 100


def verify(said: dict[str, str], certificate: bytes, data: bytes = DATA) -> None:
    verifier = Verifier(said, certificate)
    for at in range(0, len(data), 1000):
        verifier.update(data[at : at + 1000])
    verifier.verify()


@pytest.mark.parametrize("kind", KEY_TYPES)
def test_each_kind_of_key_with_each_hash(kind: str) -> None:
    key = new_key(kind)
    own = Authority("image", Authority("root"), key=key, ca=False)
    for hash_name in HASHES:
        said = signed(key, DATA, kind, hash_name)
        assert is_signed(said)
        verify(said, own.pem)
        verify(said, own.der)
        with pytest.raises(Fault, match="Signature verification for the image failed"):
            verify(said, own.pem, DATA[:-1] + b"!")
        with pytest.raises(Fault, match="verification for the image failed"):
            verify(said, Authority("other", key=new_key(kind)).pem)


def test_an_image_with_some_of_the_four_is_not_signed() -> None:
    said = signed(new_key("ECC_SECP384R1"), DATA)
    assert is_signed(said)
    assert not any(is_signed({n: v for n, v in said.items() if n != name}) for name in said)


@pytest.mark.parametrize(
    ("change", "why"),
    [({"img_signature": "not base64!"}, "base64"), ({"img_signature_hash_method": "MD5"}, "hash method"),
     ({"img_signature_key_type": "RSA"}, "key type"), ({"img_signature_key_type": "ECC_SECT571K1"}, "not taken"),
     ({"img_signature_key_type": "RSA-PSS"}, "not of the signature's key type"),
     ({"img_signature_key_type": "ECC_SECP521R1"}, "not of the signature's key type")],
)  # fmt: skip
def test_what_cannot_be_verified_is_refused(change: dict[str, str], why: str) -> None:
    own = Authority("image")
    with pytest.raises(Fault, match=why) as refused:
        verify(signed(own.key, DATA) | change, own.pem)
    assert refused.value.kind is Kind.INVALID


@pytest.mark.parametrize("certificate", [b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"x"])
def test_a_certificate_that_is_none(certificate: bytes) -> None:
    with pytest.raises(Fault, match="cannot be read") as refused:
        verify(signed(new_key("ECC_SECP384R1"), DATA), certificate)
    assert refused.value.kind is Kind.INVALID
