"""What an operator may set about identity."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class IdentitySettings:
    """Lifetimes in seconds; counts."""

    token_lifetime_seconds: int = 3600
    expired_token_grace_seconds: int = 48 * 3600  # beside a service token: keystone's allow_expired_window
    revocation_poll_seconds: float = 0.4  # how old the knowledge of revocations may be
    token_cache_size: int = 10_000
    password_checks_at_once: int = 2
    fernet_keys_maximum: int = 5
