"""The words of placement: well-known and custom names, error codes, identifiers, and answers with their date.

Sources: the Placement API reference; the names that os-traits and os-resource-classes give to all clouds.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from email.utils import format_datetime
from importlib.resources import files
from typing import Annotated, Any, Final

import msgspec
from sqlalchemy.exc import IntegrityError

from kilonova.base.faults import Fault, conflict, invalid
from kilonova.http.request import Answer, Request
from kilonova.policy.rules import Rule

CONCURRENT_UPDATE: Final = "placement.concurrent_update"
INVENTORY_IN_USE: Final = "placement.inventory.inuse"
DUPLICATE_NAME: Final = "placement.duplicate_name"
PROVIDER_IN_USE: Final = "placement.resource_provider.inuse"
PROVIDER_NOT_FOUND: Final = "placement.resource_provider.not_found"
CANNOT_DELETE_PARENT: Final = "placement.resource_provider.cannot_delete_parent"
BAD_QUERY_VALUE: Final = "placement.query.bad_value"
DUPLICATE_QUERY_KEY: Final = "placement.query.duplicate_key"
MISSING_QUERY_VALUE: Final = "placement.query.missing_value"

UNKNOWN_CONSUMER_TYPE: Final = "unknown"
MAXIMUM: Final = 2147483647

STANDARD_CLASSES: Final = (
    "VCPU", "MEMORY_MB", "DISK_GB", "PCI_DEVICE", "SRIOV_NET_VF", "NUMA_SOCKET", "NUMA_CORE", "NUMA_THREAD",
    "NUMA_MEMORY_MB", "IPV4_ADDRESS", "VGPU", "VGPU_DISPLAY_HEAD", "NET_BW_EGR_KILOBIT_PER_SEC",
    "NET_BW_IGR_KILOBIT_PER_SEC", "PCPU", "MEM_ENCRYPTION_CONTEXT", "FPGA", "PGPU",
    "NET_PACKET_RATE_KILOPACKET_PER_SEC", "NET_PACKET_RATE_EGR_KILOPACKET_PER_SEC",
    "NET_PACKET_RATE_IGR_KILOPACKET_PER_SEC",
)  # fmt: skip
STANDARD_TRAITS: Final = frozenset(files("kilonova.placement.trait").joinpath("standard.txt").read_text().split())

ClassName = Annotated[str, msgspec.Meta(pattern="^[A-Z0-9_]+$", max_length=255)]
CustomName = Annotated[str, msgspec.Meta(pattern="^CUSTOM_[A-Z0-9_]+$", max_length=255)]
Amount = Annotated[int, msgspec.Meta(ge=1, le=MAXIMUM)]
Generation = Annotated[int, msgspec.Meta(ge=-1, le=MAXIMUM)]
_CUSTOM: Final = re.compile(r"CUSTOM_[A-Z0-9_]{1,248}\Z")


def is_custom(name: str) -> bool:
    """Whether `name` is a well-formed custom trait or resource class."""
    return bool(_CUSTOM.match(name))


def uuid_of(text: str, where: str) -> str:
    """`text` as a lower-case UUID with dashes; 400 naming `where` when it is none."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise invalid(f"Invalid input for {where}: {text[:60]!r} is not a UUID.") from None


def generation_conflict() -> Fault:
    """The provider changed since the client read it."""
    return conflict(
        "Resource provider's generation already changed.",
        hint="Please update the generation and try again.",
        code=CONCURRENT_UPDATE,
    )


@contextmanager
def met_another(said: str, code: str = CONCURRENT_UPDATE) -> Iterator[None]:
    """On a database server two units may both find a key free: the one that came late is told so, as a 409."""
    try:
        yield
    except IntegrityError as error:
        raise conflict(said, code=code, inside=str(error)) from error


def dated(request: Request[Any], body: Any, moment: datetime, *, status: int = 0, location: str = "") -> Answer:
    """An answer that caches must check again, with the time of its last change (from 1.15 on)."""
    headers = {"location": location} if location else {}
    if request.version >= (1, 15):
        headers |= {"last-modified": format_datetime(moment, usegmt=True), "cache-control": "no-cache"}
    return Answer(body, status, headers)


def only(request: Request[Any], *known: str) -> None:
    """400 when the query holds a parameter that this resource does not have at this version."""
    if unknown := sorted(request.query.keys() - set(known)):
        names = ", ".join(repr(name[:60]) for name in unknown)
        raise invalid(
            f"Invalid query string parameters: Additional properties are not allowed ({names} was unexpected).",
            hint=f"Known here at this version: {', '.join(sorted(known)) or 'none'}.",
            code=BAD_QUERY_VALUE,
        )


def once(request: Request[Any], name: str) -> str | None:
    """The value of a parameter that may be given once; 400 when it is given twice."""
    values = request.query.all(name)
    if len(values) > 1:
        raise invalid(f"The query parameter {name} may be given once.", code=DUPLICATE_QUERY_KEY)
    return values[0] if values else None


def rule(name: str, method: str, path: str, check: str = "rule:admin_or_service_api") -> Rule:
    """A policy rule of placement: for administrators and services unless `check` says otherwise."""
    return Rule(f"placement:{name}", check, operations=((method, path),), scopes=("project",))
