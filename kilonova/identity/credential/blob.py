"""What is in a credential: its blob, opened; for EC2 keys also what they are limited to.

Keys made with a token of a trust or of an application credential carry its id: whoever logs in with them has what that
delegation allows and nothing more.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

from kilonova.base.faults import forbidden, invalid
from kilonova.identity.credential.store import Credential
from kilonova.identity.token.delegated import LIMITS
from kilonova.identity.token.payload import Payload
from kilonova.identity.token.validate import Validated

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService

EC2 = "ec2"
DELEGATIONS = LIMITS


def seal(service: IdentityService, blob: str) -> bytes:
    """As it is stored."""
    return service.sealer.seal({"blob": blob})


def blob_of(service: IdentityService, credential: Credential) -> str:
    """The blob as the client gave it."""
    return str(service.sealer.open(credential.sealed).get("blob", ""))


def access_hash(access: str) -> str:
    """By what the credential with this access key is found; at first also its id."""
    return hashlib.sha256(access.encode()).hexdigest()


def keys_in(blob: str) -> dict[str, Any]:
    """The keys of an EC2 credential's blob; INVALID when it holds none."""
    try:
        keys = msgspec.json.decode(blob)
    except msgspec.DecodeError:
        raise invalid("Invalid blob in credential: it is not JSON.") from None
    if not isinstance(keys, dict) or not keys.get("access") or not isinstance(keys.get("secret"), str):
        raise invalid("Invalid blob in credential: an EC2 credential holds access and secret.")
    return keys


def check_reach(service: IdentityService, token: Validated, credential: Credential) -> None:
    """FORBIDDEN when the token speaks with delegated rights and the credential was not made with the same.

    Its secret would give the whole rights of its user.
    """
    if not reaches(service, token, credential):
        raise forbidden("A token got by delegation reaches only the credentials made with it.")


def reaches(service: IdentityService, token: Validated, credential: Credential) -> bool:
    """Whether the token may see and change the credential, as far as delegation goes."""
    limits = delegations(token.payload)
    if not limits or credential.user_id != token.payload.user_id:
        return True
    keys = keys_in(blob_of(service, credential)) if credential.type == EC2 else {}
    return all(keys.get(name) == value for name, value in limits.items())


def delegations(payload: Payload) -> dict[str, str]:
    """What keys made with this token are limited to."""
    values = (payload.trust_id, payload.application_credential_id, payload.access_token_id)
    return {name: value for name, value in zip(LIMITS, values, strict=True) if value}
