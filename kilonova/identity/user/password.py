"""Changing passwords: by their users, who know the old one, and by administrators."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from kilonova.base.faults import invalid, unauthenticated
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.identity.ldap import login as directory_login
from kilonova.identity.revoking import change_and_revoke
from kilonova.identity.token import login_store
from kilonova.identity.token.bodies import PasswordUser
from kilonova.identity.user import compliance, password_store
from kilonova.identity.user.password_store import Password

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService


class ChangePassword(msgspec.Struct):
    """The body's `user`."""

    original_password: str
    password: str


async def change(service: IdentityService, request: Request[ChangePassword]) -> None:
    """A new password for who knows the old one; all tokens got so far are revoked."""
    user_id, body = request.path["user_id"], request.body
    for field, value in (("original_password", body.original_password), ("password", body.password)):
        service.passwords.check_length(value, f"user.{field}")
    named = PasswordUser(body.original_password, id=user_id)
    if (directory := await service.directories.asked(named)) is not None:
        await directory_login.prove(service, directory, named)
        await service.directories.must_be_here(directory.domain_id, "passwords")
    known = await service.db.read(login_store.find_user, user_id, "", "", "")
    right = await service.passwords.matches(body.original_password, known.password_hash if known else "")
    admitted = await compliance.admit(service, known, right)
    if known is None or not admitted or not known.enabled:
        raise unauthenticated(inside="unknown, disabled or locked user, or wrong password")
    if not body.password:
        raise invalid("Invalid input for field user.password: it must not be empty.")
    await compliance.check_form(service, body.password)
    await compliance.check_change(service, user_id, known.options, body.password)
    await write(service, user_id, await compliance.new_password(service, body.password, by_admin=False))


async def write(service: IdentityService, user_id: str, new: Password) -> None:
    """The password counts from now on, and no token got before does."""
    kept = max(service.settings.password_history_count - 1, 0)
    await change_and_revoke(service, ("user", user_id), password_store.replace, user_id, new, kept)


ROUTES = (
    Route(
        method="POST",
        path="/v3/users/{user_id}/password",
        handler=change,
        body=ChangePassword,
        envelope="user",
        needs_token=False,
        open_because="the old password is the proof; who must change it may have no token",
        success=204,
    ),
)
