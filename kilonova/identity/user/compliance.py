"""Rules about passwords and logins that an operator may switch on: lockout, expiry, history, age, form, inactivity.

A user's own options (`ignore_lockout_failure_attempts`, …) except it. Whoever is refused hears nothing of why, but
for a right password that must be changed.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from kilonova.base.faults import invalid, unauthenticated
from kilonova.identity.token import login_store
from kilonova.identity.token.login_store import KnownUser
from kilonova.identity.user import password_store
from kilonova.identity.user.password_store import Password

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService

_SWITCHES = (
    "ignore_change_password_upon_first_use",
    "ignore_password_expiry",
    "ignore_lockout_failure_attempts",
    "lock_password",
    "ignore_user_inactivity",
    "multi_factor_auth_enabled",
)


def checked_options(options: dict[str, Any]) -> dict[str, Any]:
    """The options of a user when there are such; None takes one away."""
    for name, value in options.items():
        if name in _SWITCHES:
            fits = value is None or isinstance(value, bool)
        elif name == "multi_factor_auth_rules":
            fits = value is None or _are_rules(value)
        else:
            raise invalid(f"Invalid input for field user.options: there is no option {name[:60]!r}.")
        if not fits:
            raise invalid(f"Invalid input for field user.options.{name}: {str(value)[:60]!r} is not possible.")
    return options


def _are_rules(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(rule, list) and rule and all(isinstance(method, str) for method in rule) for rule in value
    )


def factor_rules(options: dict[str, Any]) -> list[list[str]]:
    """Sets of methods, each of which is enough for the user; none when it asks for nothing special."""
    return (options.get("multi_factor_auth_rules") or []) if options.get("multi_factor_auth_enabled") else []


def satisfies_factors(options: dict[str, Any], methods: set[str]) -> bool:
    """Whether the methods are enough for a user who asks for several."""
    rules = factor_rules(options)
    return not rules or any(set(rule) <= methods for rule in rules)


async def admit(service: IdentityService, known: KnownUser | None, right: bool, *, forget: bool = True) -> bool:
    """Whether the login goes on, once it is counted: a right password of a user who is not locked out or inactive.

    Unknown users cost the same write as known ones. Without `forget` earlier failures stay counted: another factor is
    still to come, and whoever knows the password must not have endless tries at it.
    """
    settings, now = service.settings, service.world.clock.now()
    if settings.lockout_failure_attempts and (known is None or not known.options.get(_SWITCHES[2])):
        if known is not None and _is_locked(service, known, now):
            return False
        if not right:
            await service.db.write(login_store.count_failure, known.id if known else "-", now)
        elif forget and known is not None and known.failed_logins:
            await service.db.write(login_store.forget_failures, known.id)
    if settings.disable_inactive_days and known is not None and not known.options.get("ignore_user_inactivity"):
        if known.active_at and now - known.active_at > timedelta(days=settings.disable_inactive_days):
            return False
        if right and (known.active_at is None or known.active_at.date() != now.date()):
            await service.db.write(login_store.note_activity, known.id, now)
    return right


def _is_locked(service: IdentityService, known: KnownUser, now: datetime) -> bool:
    settings = service.settings
    if known.failed_logins < settings.lockout_failure_attempts or known.failed_at is None:
        return False
    lasts = timedelta(seconds=settings.lockout_duration_seconds)
    return not lasts or now - known.failed_at <= lasts


def must_be_current(service: IdentityService, known: KnownUser) -> None:
    """UNAUTHENTICATED, with the reason, when a password that is right has expired."""
    expires_at = known.password_expires_at
    if expires_at is None or known.options.get("ignore_password_expiry") or service.world.clock.now() < expires_at:
        return
    raise unauthenticated(f"The password is expired and needs to be changed for user: {known.id}.")


async def check_form(service: IdentityService, password: str) -> None:
    """INVALID when the password is empty, too long, or does not have the form that the operator asks for."""
    settings = service.settings
    service.passwords.check_length(password, "user.password")
    if settings.password_regex and not re.match(settings.password_regex, password):
        wanted = settings.password_regex_description or settings.password_regex
        raise invalid(f"The password does not match the requirements: {wanted}.")


async def check_change(service: IdentityService, user_id: str, options: dict[str, Any], password: str) -> None:
    """INVALID when a user may not change its own password to this one, or not now."""
    settings, now = service.settings, service.world.clock.now()
    if options.get("lock_password"):
        raise invalid("You cannot change your password: an administrator keeps it as it is.")
    present = await service.db.read(password_store.present, user_id)
    age = timedelta(days=settings.minimum_password_age_days)
    if age and present.set_at is not None and not present.must_change(now) and now < present.set_at + age:
        raise invalid(
            "Cannot change password before minimum age is met.", hint=f"Wait {settings.minimum_password_age_days} days."
        )
    if settings.password_history_count:
        earlier = await service.db.read(password_store.earlier, user_id, settings.password_history_count - 1)
        for stored in [present.password_hash, *earlier]:
            if await service.passwords.matches(password, stored):
                raise invalid(
                    "The new password cannot be identical to a previous password. The total number of previous "
                    f"passwords that must be unique is: {settings.password_history_count}."
                )


async def new_password(service: IdentityService, password: str | None, *, by_admin: bool) -> Password:
    """What to write for a password; None is none, whom nobody can log in with."""
    settings, now = service.settings, service.world.clock.now()
    if password is None:
        return Password("", None, None)
    await check_form(service, password)
    expires_at = now + timedelta(days=settings.password_expires_days) if settings.password_expires_days else None
    if by_admin and settings.change_password_upon_first_use:
        expires_at = now
    return Password(await service.passwords.hash(password), now, expires_at)
