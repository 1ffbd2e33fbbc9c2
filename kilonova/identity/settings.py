"""What an operator may set about identity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kilonova.identity.limit.model import Model


@dataclass(frozen=True)
class IdentitySettings:
    """Lifetimes in seconds; counts."""

    token_lifetime_seconds: int = 3600
    token_provider: Literal["fernet", "jws"] = "fernet"  # encrypted, or signed and readable; both are always accepted
    expired_token_grace_seconds: int = 48 * 3600  # beside a service token: keystone's allow_expired_window
    revocation_poll_seconds: float = 0.4  # how old the knowledge of revocations may be
    token_cache_size: int = 10_000
    oidc_audiences: tuple[str, ...] = ("kilonova",)  # of access tokens that providers give for this cloud
    oidc_cafile: str = ""  # who signed the certificates of the providers; "" for the usual authorities
    directory_refresh_seconds: int = 300  # how old the knowledge of users and groups in directories (LDAP) may be
    oauth_request_lifetime_seconds: int = 28_800  # how long a user may take to agree
    oauth_access_lifetime_seconds: int = 86_400
    password_checks_at_once: int = 2
    receipt_lifetime_seconds: int = 300  # how long a first factor waits for the next
    totp_earlier_passcodes: int = 1  # how many before the present one are taken: clocks differ
    fernet_keys_maximum: int = 5
    limit_model: Model = "flat"  # or strict_two_level
    trust_redelegations_maximum: int = 3
    project_depth_maximum: int = 5  # projects below each other; with strict_two_level it is 1
    # security compliance: 0 or "" means the rule is off
    lockout_failure_attempts: int = 0  # wrong passwords in a row after which a user must wait
    lockout_duration_seconds: int = 1800
    password_history_count: int = 0  # how many earlier passwords, the present one included, may not be used again
    password_expires_days: int = 0
    minimum_password_age_days: int = 0
    password_regex: str = ""
    password_regex_description: str = ""
    change_password_upon_first_use: bool = False
    disable_inactive_days: int = 0  # users who did not log in for so long are refused
