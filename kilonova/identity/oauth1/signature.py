"""Signed requests (RFC 5849, HMAC): who signed, and with which token. A signature is good once, within ten minutes."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from kilonova.base.faults import Fault, unauthenticated
from kilonova.http.request import Request
from kilonova.identity.oauth1 import store as oauth_store

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService

TIMELY_SECONDS = 600
HEADER_CHARACTERS = 8192
_NOBODYS = "nobody has this secret: unknown keys cost as much as wrong signatures"


class Signed(msgspec.Struct):
    """What a request's Authorization header says; nothing of it is believed before `check`."""

    uri: str
    http_method: str
    params: list[tuple[str, str]]
    signature: str
    said: dict[str, str]

    @property
    def token_id(self) -> str:
        """The request or access token that the request names; "" for none."""
        return self.said.get("oauth_token", "")

    @property
    def consumer_id(self) -> str:
        """The consumer that the request names."""
        return self.said.get("oauth_consumer_key", "")


def refused(inside: str) -> Fault:
    """What everybody hears whose request is not signed as it must be."""
    return unauthenticated(inside=inside)


def read(request: Request[Any]) -> Signed:
    """The signature of a request. UNAUTHENTICATED when it has none that can be read."""
    header = request.headers.get("authorization", "")
    if len(header) > HEADER_CHARACTERS or not header[:6].lower() == "oauth ":
        raise refused("the request has no OAuth signature")
    from oauthlib.oauth1.rfc5849 import signature as rfc5849  # loaded for the first signed request

    try:
        pairs = rfc5849.collect_parameters(headers={"authorization": header}, exclude_oauth_signature=False)
    except ValueError:
        raise refused("the OAuth signature cannot be read") from None
    said = dict(pairs)
    if len(said) != len(pairs):
        raise refused("the OAuth signature names something twice")
    params = [pair for pair in pairs if pair[0] != "oauth_signature"]
    uri = f"{request.origin}{request.url_path[request.url_path.find('/v3') :]}"
    return Signed(uri, request.method, params, said.get("oauth_signature", ""), said)


async def check(service: IdentityService, signed: Signed, token_sealed: bytes | None, *, with_token: bool) -> None:
    """UNAUTHENTICATED unless the consumer signed it, with the secret of its token when `with_token`, just now, once."""
    consumer = await service.db.read(oauth_store.find_consumer, signed.consumer_id)
    secret = service.sealer.open(consumer.sealed)["secret"] if consumer else _NOBODYS
    own = service.sealer.open(token_sealed)["secret"] if token_sealed else ""
    right = _is_signed_by(signed, secret, own)
    moment = _moment(signed.said.get("oauth_timestamp", ""))
    now = service.world.clock.now()
    timely = moment is not None and abs(now - moment) < timedelta(seconds=TIMELY_SECONDS)
    nonce = signed.said.get("oauth_nonce", "")
    if consumer is None or (with_token and not token_sealed) or not right or not timely or not nonce:
        raise refused("unknown consumer or token, wrong signature, or signed too long ago")
    digest = hashlib.sha256(repr((consumer.id, signed.token_id, signed.said["oauth_timestamp"], nonce)).encode())
    until = now + timedelta(seconds=2 * TIMELY_SECONDS)
    if not await service.db.write(oauth_store.use_nonce, digest.hexdigest(), until):
        raise refused("the signed request was seen before")


def _is_signed_by(signed: Signed, secret: str, token_secret: str) -> bool:
    from oauthlib.oauth1.rfc5849 import signature as rfc5849

    methods = {
        "HMAC-SHA1": rfc5849.verify_hmac_sha1,
        "HMAC-SHA256": rfc5849.verify_hmac_sha256,
        "HMAC-SHA512": rfc5849.verify_hmac_sha512,
    }
    verify = methods.get(signed.said.get("oauth_signature_method", ""))
    try:
        return verify is not None and bool(verify(signed, secret, token_secret))
    except ValueError:
        return False


def _moment(text: str) -> datetime | None:
    return datetime.fromtimestamp(int(text), UTC) if text.isascii() and text.isdigit() and len(text) <= 11 else None
