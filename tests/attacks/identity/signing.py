"""Requests signed as AWS clients sign them, described as services describe them to identity."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote


def signed_2(access: str, secret: str, moment: datetime | None = None) -> dict[str, Any]:
    """Signature version 2: a query."""
    at = (moment or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")
    params = {
        "Action": "DescribeInstances",
        "AWSAccessKeyId": access,
        "SignatureMethod": "HmacSHA256",
        "SignatureVersion": "2",
        "Timestamp": at,
    }
    query = "&".join(f"{quote(key, safe='-_.~')}={quote(value, safe='-_.~')}" for key, value in sorted(params.items()))
    text = f"GET\nec2.example\n/services/Cloud\n{query}"
    made = base64.b64encode(hmac.digest(secret.encode(), text.encode(), "sha256")).decode()
    described = {"access": access, "verb": "GET", "host": "ec2.example:8773", "path": "/services/Cloud"}
    return described | {"params": params, "signature": made}


def signed_4(access: str, secret: str, moment: datetime | None = None) -> dict[str, Any]:
    """Signature version 4: a header."""
    now = moment or datetime.now(UTC)
    at, place = now.strftime("%Y%m%dT%H%M%SZ"), f"{now:%Y%m%d}/RegionOne/ec2/aws4_request"
    body_hash = hashlib.sha256(b"Action=DescribeInstances").hexdigest()
    headers = {"Host": "ec2.example:8773", "X-Amz-Date": at}
    canonical = f"POST\n/\n\nhost:ec2.example:8773\nx-amz-date:{at}\n\nhost;x-amz-date\n{body_hash}"
    text = f"AWS4-HMAC-SHA256\n{at}\n{place}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{secret}".encode()
    for part in place.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    made = hmac.new(key, text.encode(), "sha256").hexdigest()
    headers["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={access}/{place}, SignedHeaders=host;x-amz-date, Signature={made}"
    )
    described = {"access": access, "verb": "POST", "host": "ec2.example:8773", "path": "/", "params": {}}
    return described | {"headers": headers, "body_hash": body_hash, "signature": made}


def signed_s3(access: str, secret: str) -> dict[str, Any]:
    """S3's older signature of a string that the service sends."""
    text = b"GET\n\n\nTue, 27 Mar 2007 19:36:42 +0000\n/bucket/object"
    made = base64.b64encode(hmac.digest(secret.encode(), text, "sha1")).decode()
    return {"access": access, "token": base64.urlsafe_b64encode(text).decode(), "signature": made}
