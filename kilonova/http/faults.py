"""How faults look over HTTP: the status hangs on the kind, the body's shape on the service.

Bodies follow what each service's clients parse (keystoneauth, novaclient, neutronclient, glanceclient, osc-placement).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from kilonova.base.faults import Fault, Kind

STATUS: Mapping[Kind, int] = {
    Kind.NOT_FOUND: 404,
    Kind.EXISTS: 409,
    Kind.INVALID: 400,
    Kind.CONFLICT: 409,
    Kind.FORBIDDEN: 403,
    Kind.UNAUTHENTICATED: 401,
    Kind.NO_CAPACITY: 409,
    Kind.OVER_QUOTA: 403,
    Kind.TOO_LARGE: 413,
    Kind.BUSY: 429,
    Kind.UNAVAILABLE: 503,
    Kind.BUG: 500,
}
TITLE = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    409: "Conflict",
    413: "Request Entity Too Large",
    415: "Unsupported Media Type",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}

Body = Callable[[Fault, int, str], Any]


class FaultStyle(msgspec.Struct, frozen=True):
    """A service's way: the body's shape and the codes in which it differs."""

    body: Body
    statuses: Mapping[Kind, int] = {}

    def status(self, fault: Fault) -> int:
        """The HTTP status of `fault`; `fault.data["status"]` wins (406, 405, 415)."""
        special = fault.data.get("status")
        return int(special) if special else self.statuses.get(fault.kind, STATUS[fault.kind])


_WORDS = {
    400: "badRequest",
    401: "unauthorized",
    403: "forbidden",
    404: "itemNotFound",
    405: "badMethod",
    409: "conflictingRequest",
    413: "overLimit",
    415: "badMediaType",
    429: "overLimit",
    503: "serviceUnavailable",
}


def _compute(fault: Fault, status: int, _request_id: str) -> Any:
    return {_WORDS.get(status, "computeFault"): {"code": status, "message": fault.told}}


def _identity(fault: Fault, status: int, _request_id: str) -> Any:
    return {"error": {"code": status, "message": fault.told, "title": TITLE.get(status, "Error")}}


def _network(fault: Fault, status: int, _request_id: str) -> Any:
    kind = fault.code or "".join(word.title() for word in fault.kind.value.split("_"))
    return {"NeutronError": {"type": kind, "message": fault.told, "detail": ""}}


def _image(fault: Fault, status: int, _request_id: str) -> Any:
    return {
        "message": fault.told,
        "code": f"{status} {TITLE.get(status, 'Error')}",
        "title": TITLE.get(status, "Error"),
    }


def _placement(fault: Fault, status: int, request_id: str) -> Any:
    error = {"status": status, "title": TITLE.get(status, "Error"), "detail": fault.told, "request_id": request_id}
    error["code"] = fault.code if fault.code.startswith("placement.") else "placement.undefined_code"
    return {"errors": [error]}


COMPUTE = FaultStyle(_compute)
BLOCK_STORAGE = FaultStyle(_compute, {Kind.OVER_QUOTA: 413, Kind.BUSY: 413})
IDENTITY = FaultStyle(_identity, {Kind.TOO_LARGE: 400})
NETWORK = FaultStyle(_network, {Kind.OVER_QUOTA: 409})
IMAGE = FaultStyle(_image, {Kind.OVER_QUOTA: 413})
PLACEMENT = FaultStyle(_placement)
