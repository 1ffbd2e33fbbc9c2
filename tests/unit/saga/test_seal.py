"""What is sealed can be read only with a deployment key, also after keys were rotated."""

from __future__ import annotations

import json

import pytest
from cryptography.fernet import Fernet

from kilonova.base.faults import Fault, Kind
from kilonova.saga.seal import Sealer

SECRETS = {"admin_password": "Zx9-sesame", "token": "gAAAA"}


def test_what_is_sealed_opens_and_does_not_show() -> None:
    sealer = Sealer([Sealer.new_key()])
    sealed = sealer.seal(SECRETS)
    assert sealer.open(sealed) == SECRETS
    assert b"sesame" not in sealed


def test_a_new_key_seals_and_the_old_one_still_opens() -> None:
    old, new = Sealer.new_key(), Sealer.new_key()
    sealed = Sealer([old]).seal(SECRETS)
    both = Sealer([new, old])
    assert both.open(sealed) == SECRETS
    assert Sealer([new]).open(both.seal(SECRETS)) == SECRETS


def test_what_was_sealed_with_fernet_still_opens() -> None:
    key = Sealer.new_key()
    sealed = Fernet(key).encrypt(json.dumps(SECRETS).encode())
    assert Sealer([Sealer.new_key(), key]).open(sealed) == SECRETS


def test_what_was_changed_does_not_open() -> None:
    sealer = Sealer([Sealer.new_key()])
    sealed = bytearray(sealer.seal(SECRETS))
    for place in (0, 11, 12, len(sealed) - 1):
        sealed[place] ^= 1
        with pytest.raises(Fault):
            sealer.open(bytes(sealed))
        sealed[place] ^= 1
    with pytest.raises(Fault):
        sealer.open(bytes(sealed[:10]))


def test_erased_is_empty() -> None:
    assert Sealer([Sealer.new_key()]).open(None) == {}


def test_another_deployments_key_is_told_plainly() -> None:
    sealed = Sealer([Sealer.new_key()]).seal(SECRETS)
    with pytest.raises(Fault) as caught:
        Sealer([Sealer.new_key()]).open(sealed)
    assert caught.value.kind is Kind.BUG
    assert "deployment key" in caught.value.inside
    assert "sesame" not in repr(caught.value)
