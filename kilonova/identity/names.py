"""Names: what counts as the same name, and what is no name at all.

OpenStack leaves to the database whether `Alice` and `alice` are one user. Here they are: names of domains, projects,
users, groups and roles are unique after Unicode compatibility normalisation (NFKC) and case folding, and without what
cannot be seen: spaces around them and format characters.
"""

from __future__ import annotations

import hashlib
import unicodedata

from kilonova.base.faults import invalid

KEY_CHARACTERS = 255


def name_key(name: str) -> str:
    """The form in which a name is compared; at most 255 characters."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    folded = "".join(character for character in folded if unicodedata.category(character) != "Cf").strip()
    if len(folded) <= KEY_CHARACTERS:
        return folded
    return folded[:180] + ":" + hashlib.sha256(folded.encode()).hexdigest()


def checked_name(name: str, field: str, maximum: int = 255) -> str:
    """`name` when it may be one: 1 to `maximum` characters, something to see among them, no control characters."""
    if not name_key(name):
        raise invalid(f"Invalid input for field {field}: a name must not be empty.")
    if len(name) > maximum:
        raise invalid(f"Invalid input for field {field}: it is longer than {maximum} characters.")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        raise invalid(f"Invalid input for field {field}: control characters are not allowed.")
    return name
