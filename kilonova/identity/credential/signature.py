"""AWS request signatures, versions 0, 1, 2 and 4, and S3's: whether a request was signed with a secret.

The formats are Amazon's ("Signing AWS API requests", "Signing and authenticating REST requests"). The client's request
comes as a description: verb, host, path, params, headers, body_hash. Signatures are compared in constant time.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import msgspec

_ALGORITHM = "AWS4-HMAC-SHA256"
VALID_FOR = timedelta(minutes=15)
_SIGNED_HEADERS = re.compile(r"SignedHeaders=([^,\s]+)")
_SCOPE = re.compile(r"Credential=[^/,\s]+/(\d{8}/[^/,\s]+/[^/,\s]+/aws4_request)")


class Signed(msgspec.Struct):
    """A request as a service describes it to identity."""

    access: str
    signature: str = ""
    verb: str = ""
    host: str = ""
    path: str = ""
    params: dict[str, Any] = {}
    headers: dict[str, Any] = {}
    body_hash: str = ""
    token: str = ""  # S3: the string that was signed, in base 64


def matches(secret: str, request: Signed) -> bool:
    """Whether `secret` made the signature. Some clients sign the host without its port: both are tried."""
    hosts = [request.host, request.host.rpartition(":")[0]] if ":" in request.host else [request.host]
    wanted = _asked(request)
    made = [_signature(secret, request, host) for host in hosts]
    return wanted != "" and any(one != "" and hmac.compare_digest(one, wanted) for one in made)


def _asked(request: Signed) -> str:
    asked = request.signature or request.params.get("Signature") or request.params.get("X-Amz-Signature") or ""
    return str(asked).encode("ascii", "ignore").decode()


def _signature(secret: str, request: Signed, host: str) -> str:
    key, params = secret.encode(), {name: str(value) for name, value in request.params.items()}
    version = params.get("SignatureVersion", "")
    if request.token:
        return _s3(key, request.token)
    if version == "0":
        return _sha1(key, params.get("Action", "") + params.get("Timestamp", ""))
    if version == "1":
        ordered = sorted(params.items(), key=lambda pair: pair[0].lower())
        return _sha1(key, "".join(name + value for name, value in ordered if name != "Signature"))
    if version == "2":
        return _version_2(key, request, host, params)
    return _version_4(key, request, host, params)


def _sha1(key: bytes, text: str) -> str:
    return base64.b64encode(hmac.digest(key, text.encode(), "sha1")).decode()


def _version_2(key: bytes, request: Signed, host: str, params: Mapping[str, str]) -> str:
    query = _query({name: value for name, value in params.items() if name != "Signature"})
    text = f"{request.verb}\n{host.lower()}\n{request.path}\n{query}"
    digest = {"HmacSHA256": "sha256", "HmacSHA1": "sha1"}.get(params.get("SignatureMethod", ""))
    return base64.b64encode(hmac.digest(key, text.encode(), digest)).decode() if digest else ""


def _query(params: Mapping[str, str]) -> str:
    return "&".join(f"{quote(name, safe='-_.~')}={quote(params[name], safe='-_.~')}" for name in sorted(params))


def _version_4(key: bytes, request: Signed, host: str, params: Mapping[str, str]) -> str:
    """The scope and the signed headers stand in the Authorization header, or in the query of a presigned URL."""
    headers = {name.lower(): str(value) for name, value in request.headers.items()}
    authorization = headers.get("authorization", "")
    if not authorization.startswith(_ALGORITHM) and params.get("X-Amz-Algorithm") != _ALGORITHM:
        return ""
    if authorization:
        scope, signed = _SCOPE.search(authorization), _SIGNED_HEADERS.search(authorization)
        if scope is None or signed is None:
            return ""
        place, names = scope[1], signed[1]
    else:
        place, names = params.get("X-Amz-Credential", "/").split("/", 1)[1], params.get("X-Amz-SignedHeaders", "")
    if place.count("/") != 3:
        return ""
    moment = params.get("X-Amz-Date") or headers.get("x-amz-date", "")
    headers["host"] = host
    lines = [f"{name}:{' '.join(headers.get(name, '').split())}" for name in names.split(";")]
    query = _query({name: value for name, value in params.items() if name not in ("X-Amz-Signature", "Signature")})
    canonical = "\n".join(
        (request.verb, quote(request.path, safe="/-_.~%"), query, *lines, "", names, request.body_hash)
    )
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    return hmac.new(_key_of(key, place), f"{_ALGORITHM}\n{moment}\n{place}\n{hashed}".encode(), "sha256").hexdigest()


def _key_of(key: bytes, place: str) -> bytes:
    """The signing key of a day, region and service: `20261121/RegionOne/ec2/aws4_request`."""
    made = b"AWS4" + key
    for part in place.split("/"):
        made = hmac.digest(made, part.encode(), "sha256")
    return made


def _s3(key: bytes, token: str) -> str:
    """S3's own: the service sends the string to sign itself; version 4's begins with the algorithm's name."""
    try:
        text = base64.urlsafe_b64decode(token)
    except (binascii.Error, ValueError):
        return ""
    if not text.startswith(_ALGORITHM.encode()):
        return base64.b64encode(hmac.digest(key, text, "sha1")).decode()
    lines = text.decode("utf-8", "replace").split("\n")
    return hmac.new(_key_of(key, lines[2]), text, "sha256").hexdigest() if len(lines) > 3 else ""


def is_timely(request: Signed, now: datetime) -> bool:
    """Whether the request was signed within 15 minutes of now, or its Expires has not come. S3 checks that itself."""
    params, headers = request.params, {name.lower(): value for name, value in request.headers.items()}
    if request.token:
        return True
    try:
        if expires := params.get("Expires"):
            return now < _moment(str(expires))
        signed = params.get("Timestamp") or params.get("X-Amz-Date") or headers.get("x-amz-date") or ""
        return abs(now - _moment(str(signed))) < VALID_FOR
    except ValueError:
        return False


def _moment(text: str) -> datetime:
    made = datetime.fromisoformat(text)
    return made.replace(tzinfo=UTC) if made.tzinfo is None else made
