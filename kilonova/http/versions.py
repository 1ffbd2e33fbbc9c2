"""Microversions: parsed from headers, compared as pairs, shown in every answer.

Source: the API SIG's microversion specification; header names as each service documents them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

import msgspec

from kilonova.base.faults import Fault, Kind, invalid

Version = tuple[int, int]
_PATTERN = re.compile(r"([1-9]\d*)\.(0|[1-9]\d*)\Z")
NONE: Version = (0, 0)


@functools.lru_cache(512)  # few are ever asked for, and each is asked for again and again
def parse(text: str) -> Version:
    """`2.15` → (2, 15); anything else is INVALID (400)."""
    found = _PATTERN.match(text.strip())
    if not found:
        raise invalid(
            f"API Version String {text[:40]} is of invalid format. Must be of format MajorNum.MinorNum.",
            code="InvalidAPIVersionString",
        )
    return int(found[1]), int(found[2])


def written(version: Version) -> str:
    """(2, 15) → `2.15`."""
    return f"{version[0]}.{version[1]}"


class Versioning(msgspec.Struct, frozen=True):
    """Which microversions a service speaks and where clients say which they want."""

    service: str = ""  # the word in OpenStack-API-Version: compute | volume | placement; "" for none
    minimum: Version = NONE
    maximum: Version = NONE
    default: Version = NONE
    legacy_header: str = ""  # lower case: x-openstack-nova-api-version

    def asked(self, headers: Mapping[str, str]) -> Version:
        """The version this request is served at. Malformed: 400; out of range: 406."""
        if not self.service:
            return NONE
        text = self._wanted(headers)
        if text is None:
            return self.default
        if text == "latest":
            return self.maximum
        version = parse(text)
        if not self.minimum <= version <= self.maximum:
            raise Fault(
                Kind.INVALID,
                f"Version {text} is not supported by the API. Minimum is {written(self.minimum)} and maximum is "
                f"{written(self.maximum)}.",
                hint="Ask for a version in that range.",
                code="NotAcceptable",
                data={"status": 406},
            )
        return version

    def _wanted(self, headers: Mapping[str, str]) -> str | None:
        for part in headers.get("openstack-api-version", "").split(","):
            words = part.split()
            if len(words) == 2 and words[0].lower() in (self.service, f"{self.service}s"):
                return words[1].lower()
        if self.legacy_header and (text := headers.get(self.legacy_header)):
            return text.strip().lower()
        return None

    def headers(self, version: Version) -> tuple[tuple[bytes, bytes], ...]:
        """Headers that tell the client which version it got."""
        return _headers(self, version)


@functools.lru_cache(512)
def _headers(speaks: Versioning, version: Version) -> tuple[tuple[bytes, bytes], ...]:
    if not speaks.service:
        return ()
    made = [(b"openstack-api-version", f"{speaks.service} {written(version)}".encode())]
    vary = "OpenStack-API-Version"
    if speaks.legacy_header:
        made.append((speaks.legacy_header.encode(), written(version).encode()))
        vary += f", {speaks.legacy_header}"
    made.append((b"vary", vary.encode()))
    return tuple(made)


def within(version: Version, since: str, until: str) -> bool:
    """Whether `version` is in [since, until]; "" is open."""
    return (not since or version >= parse(since)) and (not until or version <= parse(until))
