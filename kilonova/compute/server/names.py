"""Names of servers: what users may call them, and the host name that the guest gets."""

from __future__ import annotations

import re
import unicodedata

from kilonova.base.faults import invalid

_WORD = re.compile(r"[^\w.-]+", re.ASCII)
_HOSTNAME = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?\Z")
_FQDN = re.compile(r"[a-zA-Z0-9-]+(\.[a-zA-Z0-9-]+)*\Z")


def checked_name(name: str, field: str = "server.name") -> str:
    """`name` when it may be one: 1 to 255 printable characters without space at its ends."""
    if not 1 <= len(name) <= 255 or name.strip() != name:
        raise invalid(
            f"Invalid input for field {field}: {name[:80]!r} must be 1 to 255 characters without leading or "
            "trailing space."
        )
    if any(unicodedata.category(one) in ("Cc", "Cs", "Cn", "Zl", "Zp") for one in name):
        raise invalid(f"Invalid input for field {field}: it has a character that cannot be printed.")
    return name


def checked_text(text: str | None, field: str) -> str | None:
    """A description: at most 255 printable characters, or None."""
    if text is None:
        return None
    if len(text) > 255 or any(unicodedata.category(one) in ("Cc", "Cs") for one in text):
        raise invalid(f"Invalid input for field {field}: at most 255 printable characters.")
    return text


def checked_hostname(name: str, *, dotted: bool) -> str:
    """A host name that a user chose: a DNS label, or (from 2.94) a fully qualified name."""
    pattern, longest = (_FQDN, 255) if dotted else (_HOSTNAME, 63)
    if not 2 <= len(name) <= longest or not pattern.match(name):
        raise invalid(f"Invalid input for field server.hostname: {name[:80]!r} is not a valid host name.")
    return name


def hostname_of(name: str, server_id: str) -> str:
    """The host name made from a server's name: ASCII, lower case, at most 63 characters."""
    made = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    made = re.sub(r"[ _.]", "-", made)
    made = _WORD.sub("", made).lower().strip(".-")[:63].rstrip("-")
    return made or f"server-{server_id}"
