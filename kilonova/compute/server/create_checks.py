"""Small checks of a create's body: pure functions that return what they checked, or say what is wrong."""

from __future__ import annotations

import base64
import binascii
import ipaddress
from typing import Any

from kilonova.base.faults import Fault, Kind, invalid, over_quota
from kilonova.base.ids import is_uuid
from kilonova.compute.core import Limits
from kilonova.http.request import Request
from kilonova.http.versions import Version
from kilonova.network.contract import PortRequest

USER_DATA_LONGEST = 65535
TAGS_MOST = 50
_FORCED = "os_compute_api:servers:create:forced_host"
_HOST = "os_compute_api:compute:servers:create:requested_destination"


def counts(least: int | str, most: int | str | None) -> tuple[int, int]:
    """(min_count, max_count)."""
    fewest = _positive(least, "min_count")
    greatest = fewest if most is None else _positive(most, "max_count")
    if fewest > greatest:
        raise invalid("min_count must be <= max_count")
    return fewest, greatest


def _positive(value: int | str, name: str) -> int:
    text = str(value)
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise invalid(f"Invalid input for field server.{name}: {text[:20]!r} is not a whole number above 0.")
    return int(text)


def checked_user_data(data: str | None) -> None:
    """base64 of at most 65535 characters."""
    if not data:
        return
    if len(data) > USER_DATA_LONGEST:
        raise invalid(f"Invalid input for field server.user_data: longer than {USER_DATA_LONGEST} characters.")
    _base64(data, "server.user_data")


def _base64(text: str, field: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise invalid(f"Invalid input for field {field}: not valid base64.") from None


def checked_password(password: str) -> str:
    """A password of the user's choice, of at most 255 characters."""
    if len(password) > 255:
        raise invalid("Invalid input for field server.adminPass: longer than 255 characters.")
    return password


def checked_metadata(metadata: dict[str, Any], most: int) -> None:
    """Keys and values are strings of at most 255 characters, and not more of them than the quota says."""
    for key, value in metadata.items():
        if not 1 <= len(key) <= 255:
            raise invalid(f"Invalid input for field metadata: key {key[:40]!r} must be 1 to 255 characters.")
        if not isinstance(value, str) or len(value) > 255:
            raise invalid(f"Invalid input for field metadata.{key[:40]}: must be a string of at most 255 characters.")
    if 0 <= most < len(metadata):
        raise over_quota("metadata_items", wanted=len(metadata), used=0, limit=most)


def checked_tags(tags: list[str]) -> list[str]:
    """The tags without repeats."""
    for tag in tags:
        if not 1 <= len(tag) <= 60 or "/" in tag or "," in tag:
            raise invalid(f"Invalid input for field tags: {tag[:80]!r} must be 1 to 60 characters without '/' and ','.")
    if len(tags) > TAGS_MOST:
        raise invalid(f"The number of tags exceeded the per-server limit {TAGS_MOST}.")
    return list(dict.fromkeys(tags))


def checked_personality(files: list[dict[str, Any]], limits: Limits) -> list[tuple[str, str]]:
    """[(path, base64)], within the quota of injected files."""
    if 0 <= limits.injected_files < len(files):
        raise over_quota("injected_files", wanted=len(files), used=0, limit=limits.injected_files)
    made = []
    for number, file in enumerate(files):
        path, contents = file.get("path"), file.get("contents")
        if set(file) != {"path", "contents"} or not isinstance(path, str) or not isinstance(contents, str):
            raise invalid(f"Invalid input for field server.personality[{number}]: it needs path and contents.")
        size = len(_base64(contents, f"server.personality[{number}].contents"))
        if 0 <= limits.injected_file_content_bytes < size:
            raise over_quota(
                "injected_file_content_bytes", wanted=size, used=0, limit=limits.injected_file_content_bytes
            )
        if 0 <= limits.injected_file_path_bytes < len(path.encode()):
            raise over_quota(
                "injected_file_path_bytes", wanted=len(path.encode()), used=0, limit=limits.injected_file_path_bytes
            )
        made.append((path, "".join(contents.split())))
    return made


def checked_networks(networks: list[dict[str, Any]] | str | None, version: Version) -> list[PortRequest] | None:
    """What is asked for on each NIC; [] leaves the choice to network, None is no NIC at all."""
    if isinstance(networks, str):
        if version < (2, 37) or networks not in ("auto", "none"):
            raise invalid(f"Invalid input for field server.networks: {networks[:40]!r} is not a list of networks.")
        return [] if networks == "auto" else None
    if networks is None:
        if version >= (2, 37):
            raise invalid(
                "Invalid input for field server: 'networks' is a required property.", hint="Say auto, none, or which."
            )
        return []
    return [_nic(number, one, version) for number, one in enumerate(networks)]


def _nic(number: int, wanted: dict[str, Any], version: Version) -> PortRequest:
    field = f"server.networks[{number}]"
    known = {"uuid", "port", "fixed_ip"} | ({"tag"} if version == (2, 32) or version >= (2, 42) else set())
    if extra := set(wanted) - known:
        raise invalid(f"Additional properties are not allowed ({sorted(extra)[0][:40]!r} was unexpected) in {field}.")
    network, port, fixed_ip = (wanted.get(key) or "" for key in ("uuid", "port", "fixed_ip"))
    for value in (network, port):
        if value and not (isinstance(value, str) and is_uuid(value)):
            raise invalid(f"Invalid input for field {field}: {str(value)[:60]!r} is not a UUID.")
    if fixed_ip:
        _address(fixed_ip, f"{field}.fixed_ip")
    if not network and not port:
        raise invalid(f"Invalid input for field {field}: name a network (uuid) or a port.")
    if port and fixed_ip:
        raise invalid(f"Invalid input for field {field}: a fixed_ip cannot be chosen for a port that exists.")
    return PortRequest(port_id=port, network_id="" if port else network, fixed_ip=fixed_ip, tag=wanted.get("tag") or "")


def _address(text: Any, field: str) -> None:
    try:
        ipaddress.ip_address(str(text))
    except ValueError:
        raise invalid(f"Invalid input for field {field}: {str(text)[:60]!r} is not an IP address.") from None


def checked_ip(text: str | None, version: int, field: str) -> str:
    """An address of that IP version, or "" for none."""
    if not text:
        return ""
    _address(text, field)
    if ipaddress.ip_address(text).version != version:
        raise invalid(f"Invalid input for field {field}: {text} is not an IPv{version} address.")
    return text


def zone_and_host(request: Request[Any], zone: str, host: str, zones: set[str]) -> tuple[str, str]:
    """(availability zone, host) that the scheduler must keep to; `zone:host` and a host are for operators."""
    zone, _, forced = zone.partition(":")
    forced = forced.replace(":", "")
    if forced:
        request.enforce(rule=_FORCED)
    if host:
        request.enforce(rule=_HOST)
        if forced:
            raise invalid("Name the host in one place: availability_zone, host or hypervisor_hostname.")
    if zone and zone not in zones:
        raise Fault(Kind.INVALID, "The requested availability zone is not available", code="AZNotAvailable")
    return zone, forced or host


def checked_group(hints: dict[str, Any]) -> str:
    """The server group that the hints name, or ""."""
    group = hints.get("group", "")
    if group and not (isinstance(group, str) and is_uuid(group)):
        raise invalid("Invalid input for field os:scheduler_hints.group: not a UUID.")
    return str(group)
