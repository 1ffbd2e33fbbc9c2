"""Access tokens of OpenID Connect providers: whether a provider that we trust signed one, for us, and what it says.

The provider's keys come from its discovery document. A token decides nothing about how it is checked: neither the
algorithm nor where the keys are.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit

from kilonova.base.faults import Fault, unauthenticated, unavailable
from kilonova.http.client import Client, HttpTransport

if TYPE_CHECKING:  # PyJWT is loaded when the first access token comes: most clouds see none
    import jwt
    from jwt.types import Options

    from kilonova.identity.core import IdentityService

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA")
TOKEN_CHARACTERS = 32_768
LEEWAY_SECONDS = 10
KEYS_LIVE_SECONDS = 300.0
ASK_AGAIN_SECONDS = 10.0  # tokens with made-up key names must not make us ask at will
ANSWER_SECONDS = 5.0
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
Keys: TypeAlias = "dict[str, tuple[jwt.PyJWK, str]]"  # by name: the key, and its algorithm when it is for one only


class Providers:
    """The signing keys of providers, asked for when needed and kept a while."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, Keys]] = {}
        self._turn = asyncio.Lock()

    async def key(self, service: IdentityService, issuer: str, name: str) -> tuple[jwt.PyJWK, str]:
        """The issuer's key of that name. UNAUTHENTICATED when it has none."""
        asked_at, keys = self._known.get(issuer, (float("-inf"), {}))
        age = service.world.clock.monotonic() - asked_at
        if age > KEYS_LIVE_SECONDS or (name not in keys and age > ASK_AGAIN_SECONDS):
            async with self._turn:
                if self._known.get(issuer, (float("-inf"), {}))[0] == asked_at:
                    self._known[issuer] = (service.world.clock.monotonic(), await _keys_of(service, issuer))
            keys = self._known[issuer][1]
        if name not in keys:
            raise unauthenticated(inside="the provider has no such key")
        return keys[name]


async def claims_of(service: IdentityService, token: str, issuers: list[str]) -> dict[str, list[str]]:
    """What the token says of its holder, each claim as a list of texts. UNAUTHENTICATED unless one of the issuers
    signed it for us, and it is valid now."""
    import jwt

    try:
        if len(token) > TOKEN_CHARACTERS:
            raise unauthenticated(inside="the access token is too long")
        header = jwt.get_unverified_header(token)
        said = jwt.decode_complete(token, options={"verify_signature": False})["payload"]
        issuer, name = said.get("iss"), header.get("kid") or ""
        if issuer not in issuers or header.get("alg") not in ALGORITHMS or not isinstance(name, str):
            raise unauthenticated(inside="the access token is of another issuer, or signed in a way not accepted")
        key, algorithm = await service.providers.key(service, issuer, name)
        unchecked: Options = {"verify_aud": False, "verify_exp": False, "verify_nbf": False, "verify_iat": False}
        algorithms = [algorithm or str(header["alg"])]  # PyJWT refuses one that is not of the key's kind
        claims = jwt.decode(token, key.key, algorithms=algorithms, issuer=issuer, options=unchecked)
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise unauthenticated(inside=f"the access token is not good: {type(error).__name__}") from None
    _check_time(claims, service.world.clock.now().timestamp())
    _check_audience(claims, service.settings.oidc_audiences)
    return _texts(claims)


def _check_time(claims: dict[str, Any], now: float) -> None:
    ends, begins = claims.get("exp"), claims.get("nbf", 0)
    if not isinstance(ends, int | float) or not isinstance(begins, int | float):
        raise unauthenticated(inside="the access token does not say when it ends")
    if ends + LEEWAY_SECONDS <= now or begins - LEEWAY_SECONDS > now:
        raise unauthenticated(inside="the access token is not valid now")


def _check_audience(claims: dict[str, Any], ours: tuple[str, ...]) -> None:
    """A token that the provider gave for another service must not open this one."""
    audience = claims.get("aud", [])
    named = {audience} if isinstance(audience, str) else {one for one in audience if isinstance(one, str)}
    if not {*named, claims.get("azp"), claims.get("client_id")} & set(ours):
        raise unauthenticated(inside="the access token is for another service: see oidc_audiences")


def _texts(claims: dict[str, Any]) -> dict[str, list[str]]:
    made = {}
    for name, value in claims.items():
        values = value if isinstance(value, list) else [value]
        made[name] = [str(one) for one in values if isinstance(one, str | int | float) and str(one)]
    return made


async def _keys_of(service: IdentityService, issuer: str) -> Keys:
    import jwt

    document = await _get(service, f"{issuer.rstrip('/')}/.well-known/openid-configuration")
    if document.get("issuer") != issuer:
        raise unavailable("The identity provider's discovery document names another issuer.")
    found: Keys = {}
    for described in (await _get(service, str(document.get("jwks_uri", "")))).get("keys", []):
        try:
            key = jwt.PyJWK(described)
        except (jwt.PyJWTError, ValueError, TypeError, KeyError):
            continue  # a kind that we do not know
        if key.key_type in ("RSA", "EC", "OKP") and described.get("use", "sig") == "sig":
            found[str(described.get("kid") or "")] = (key, str(described.get("alg") or ""))
    return found


async def _get(service: IdentityService, url: str) -> dict[str, Any]:
    """A JSON document of a provider: over TLS, unless it is on this machine."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise unavailable("An identity provider is asked over https only.", hint="Mend the provider's remote_ids.")
    cafile = service.settings.oidc_cafile
    verify = ssl.create_default_context(cafile=cafile) if cafile else True
    origin, target = f"{parts.scheme}://{parts.netloc}", parts.path or "/"
    client = Client(HttpTransport(origin, timeout_seconds=ANSWER_SECONDS, verify=verify))
    try:
        document = (await client.request("GET", target)).json()
    except (Fault, ValueError) as error:
        raise unavailable("The identity provider does not answer.", inside=repr(error)) from None
    finally:
        await client.close()
    return document if isinstance(document, dict) else {}
