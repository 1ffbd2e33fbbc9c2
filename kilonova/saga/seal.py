"""Sealing: what an operation still needs in secret (a token, a password), readable only with the deployment key.

AES-256-GCM under a fresh nonce: a tenth of what Fernet costs, and an operation is sealed and opened in every create.
The library is loaded by who seals: it takes 2 MiB, and a scheduler or an agent never does.
"""

from __future__ import annotations

import base64
import os
from typing import Any

import msgspec

from kilonova.base.faults import bug

NONCE_BYTES = 12
FERNET = b"gAAAA"  # how all begins that was sealed before it was done so


class Sealer:
    """Seals JSON under the newest key, opens under any."""

    def __init__(self, keys: list[str]) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._keys = keys
        self._ciphers = [AESGCM(base64.urlsafe_b64decode(key)) for key in keys]

    @staticmethod
    def new_key() -> str:
        """A fresh deployment key."""
        return base64.urlsafe_b64encode(os.urandom(32)).decode()

    def seal(self, secrets: dict[str, Any]) -> bytes:
        """Bytes that only holders of the deployment key can read."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._ciphers[0].encrypt(nonce, msgspec.json.encode(secrets), None)

    def open(self, sealed: bytes | None) -> dict[str, Any]:
        """What was sealed; {} when nothing was or it was erased."""
        if not sealed:
            return {}
        opened = self._with_fernet(sealed) if sealed.startswith(FERNET) else self._opened(sealed)
        if opened is None:
            raise bug("sealed secrets cannot be opened: is the deployment key the one they were made with?")
        return dict(msgspec.json.decode(opened))

    def _opened(self, sealed: bytes) -> bytes | None:
        from cryptography.exceptions import InvalidTag

        for cipher in self._ciphers:
            try:
                return cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], None)
            except InvalidTag:
                continue
        return None

    def _with_fernet(self, sealed: bytes) -> bytes | None:
        from cryptography.fernet import Fernet, InvalidToken, MultiFernet

        try:
            return MultiFernet([Fernet(key) for key in self._keys]).decrypt(sealed)
        except InvalidToken:
            return self._opened(sealed)  # a nonce may begin like that
