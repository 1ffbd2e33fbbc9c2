"""What a tenant may see of a trace: everything that happened, nothing of the machines it happened on."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import msgspec

from kilonova.trace.spans import Span

# Attributes a tenant may see; what is not listed is dropped, so that a new attribute is private until it is judged.
SHOWN_ATTRIBUTES: Final = frozenset({"read", "method", "status", "count", "attempt", "action", "state", "version"})
_HOST_ATTRIBUTES: Final = (
    "host",
    "hostname",
    "node",
    "worker",
    "backend",
    "source_host",
    "dest_host",
    "sender",
    "reply_to",
)
_PATH: Final = re.compile(
    r"(?<![\w/])/(?:bin|boot|dev|etc|home|lib|media|mnt|opt|proc|root|run|srv|sys|tmp|usr|var)/\S*"
)
_ENDPOINT: Final = re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}:\d+|\[[0-9a-fA-F:.]+\]:\d+")
_QUEUE: Final = re.compile(r"\b(compute|l2_agent|l3_agent|dhcp_agent|cinder-volume|cinder-backup)\.[\w.@-]+")


def without_hosts(spans: Iterable[Span]) -> list[Span]:
    """Copies of `spans` without host names, file paths, private endpoints and code locations.

    Host names are learnt from the whole trace's attributes and `participant@host` columns, then removed wherever
    they stand: in names, errors, participants. The spans given are not changed.
    """
    given = list(spans)
    found = {value for span in given for key in _HOST_ATTRIBUTES if (value := span.attributes.get(key, ""))}
    found |= {name.partition("@")[2] for span in given for name in (span.source, span.target) if "@" in name}
    names = sorted((name for name in found if name), key=len, reverse=True)
    pattern = re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, names))})(?![\w-])") if names else None

    def clean(text: str) -> str:
        text = _QUEUE.sub(r"\1", text)
        text = pattern.sub("(host)", text) if pattern else text
        return _ENDPOINT.sub("(address)", _PATH.sub("(path)", text))

    return [
        msgspec.structs.replace(
            span,
            source=span.source.partition("@")[0],
            target=span.target.partition("@")[0],
            name=clean(span.name),
            error=clean(span.error),
            where="",
            attributes={key: clean(value) for key, value in span.attributes.items() if key in SHOWN_ATTRIBUTES},
        )
        for span in given
    ]
