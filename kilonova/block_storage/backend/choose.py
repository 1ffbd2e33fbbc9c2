"""Which backend gets a volume: filters that each say why a backend is out, then the one with the most free space."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

import msgspec

from kilonova.base.faults import no_capacity
from kilonova.block_storage.backend.store import Service
from kilonova.block_storage.contract import Capabilities


class Wanted(msgspec.Struct, frozen=True):
    """What a volume needs of its backend."""

    size_gib: int
    availability_zone: str
    extra_specs: dict[str, str] = {}
    host: str = ""  # only this one: its source is there


def choose(
    services: Collection[Service], wanted: Wanted, used_gib: Mapping[str, int], tried: Collection[str], now: datetime
) -> str:
    """The backend's host. NO_CAPACITY when none is left: inside it says, backend by backend, why."""
    fitting: list[tuple[float, str]] = []
    reasons = {}
    for one in services:
        reason = "tried already" if one.host in tried else _obstacle(one, wanted, used_gib.get(one.host, 0), now)
        if reason:
            reasons[one.host] = reason
        elif one.capabilities is not None:
            virtual = one.capabilities.total_gib * one.capabilities.max_over_subscription_ratio
            fitting.append((virtual - used_gib.get(one.host, 0), one.host))
    if not fitting:
        raise no_capacity(
            "No valid backend was found.",
            hint="Ask for a smaller volume or another volume type, or ask the operator for more storage.",
            inside=f"{wanted.size_gib} GiB: {reasons or 'no backend has reported'}",
        )
    return max(fitting)[1]


def _obstacle(one: Service, wanted: Wanted, used_gib: int, now: datetime) -> str:
    """Why the backend cannot have the volume; "" when it can."""
    have = one.capabilities
    if have is None or not one.is_up(now):
        return "it is down"
    if one.disabled:
        return "it is disabled"
    if one.availability_zone != wanted.availability_zone:
        return f"it is in zone {one.availability_zone}"
    if wanted.host and wanted.host != one.host:
        return "the source is elsewhere"
    for key, value in wanted.extra_specs.items():
        if not _offers(have, key, value):
            return f"it does not offer {key}={value}"
    ratio = have.max_over_subscription_ratio if have.thin_provisioning else 1.0
    if used_gib + wanted.size_gib > have.total_gib * ratio:
        return f"{used_gib} GiB of {have.total_gib:g} GiB are promised"
    if not have.thin_provisioning and wanted.size_gib > have.free_gib:
        return f"{have.free_gib:g} GiB are free"
    return ""


def _offers(have: Capabilities, key: str, value: str) -> bool:
    """Whether the capability of an extra spec is there. A key in another scope than `capabilities:` is not for us."""
    scope, colon, name = key.rpartition(":")
    if colon and scope != "capabilities":
        return True
    offered = {
        "volume_backend_name": have.backend,
        "storage_protocol": have.storage_protocol,
        "vendor_name": have.vendor_name,
        "driver_version": have.driver_version,
        "multiattach": have.multiattach,
        "thin_provisioning_support": have.thin_provisioning,
        "thin_provisioning": have.thin_provisioning,
    }
    if name not in offered:
        return False
    real = offered[name]
    if isinstance(real, bool):
        return (value.removeprefix("<is>").strip().lower() in ("true", "1", "yes")) == real
    return value.removeprefix("<in>").strip() in (real, "") if value.startswith("<in>") else value == real
