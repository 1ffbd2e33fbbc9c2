"""Sealing: what an operation still needs in secret (a token, a password), readable only with the deployment key.

The library is loaded by who seals: it takes 2 MiB, and a scheduler or an agent never does.
"""

from __future__ import annotations

from typing import Any

import msgspec

from kilonova.base.faults import bug


class Sealer:
    """Seals JSON under the newest key, opens under any."""

    def __init__(self, keys: list[str]) -> None:
        from cryptography.fernet import Fernet, MultiFernet

        self._fernet = MultiFernet([Fernet(key) for key in keys])

    @staticmethod
    def new_key() -> str:
        """A fresh deployment key."""
        from cryptography.fernet import Fernet

        return Fernet.generate_key().decode()

    def seal(self, secrets: dict[str, Any]) -> bytes:
        """Bytes that only holders of the deployment key can read."""
        return self._fernet.encrypt(msgspec.json.encode(secrets))

    def open(self, sealed: bytes | None) -> dict[str, Any]:
        """What was sealed; {} when nothing was or it was erased."""
        if not sealed:
            return {}
        from cryptography.fernet import InvalidToken

        try:
            return dict(msgspec.json.decode(self._fernet.decrypt(sealed)))
        except InvalidToken:
            raise bug("sealed secrets cannot be opened: is the deployment key the one they were made with?") from None
